"""Usage: httpx_get.py URL HEADERS(JSON)"""

import json
import sys

import httpx

answer = httpx.get(sys.argv[1], headers=json.loads(sys.argv[2]))
answer.raise_for_status()
print(answer.text)
