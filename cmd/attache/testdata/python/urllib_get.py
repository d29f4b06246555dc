"""Usage: urllib_get.py URL HEADERS(JSON)"""

import json
import sys
import urllib.request

request = urllib.request.Request(sys.argv[1], headers=json.loads(sys.argv[2]))
with urllib.request.urlopen(request) as answer:
    print(answer.read().decode())
