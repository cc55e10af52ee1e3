"""The async client: many calls under way on one event loop, with the same names, arguments and rules.

Run it as first_task.py. With `pip install 'yottabench[aio]'` it is several times faster.
"""

import asyncio

from yottabench.client import AsyncClient

GPU = {"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}


async def main(count: int = 50) -> None:
    async with AsyncClient() as client:
        endpoint = await client.endpoints.create(
            name="async", image="sim/echo", resources=[GPU], workers=4, container_volume_in_gb=20, service_mode="QUEUE"
        )

        async def square(number: int) -> int:
            task = await client.tasks.submit_and_wait(
                endpoint.id, {"number": number}, worker_port=8000, process_uri="/square", check=True
            )
            answered: int = task.output["number"]
            return answered**2

        squares = await asyncio.gather(*[square(number) for number in range(count)])
        print("sum of squares:", sum(squares))

        print("tasks:", sum([1 async for _ in client.tasks.iterate(endpoint.id)]))
        await client.endpoints.delete(endpoint.id)


if __name__ == "__main__":
    asyncio.run(main())
