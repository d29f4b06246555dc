"""Usage: aiohttp_get.py URL HEADERS(JSON)"""

import asyncio
import json
import sys

import aiohttp


async def main():
    async with aiohttp.ClientSession(trust_env=True, raise_for_status=True) as session:
        async with session.get(sys.argv[1], headers=json.loads(sys.argv[2])) as answer:
            print(await answer.text())


asyncio.run(main())
