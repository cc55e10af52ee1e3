"""A log tail: the lines of a worker as they are printed, while tasks run.

Run it as first_task.py.
"""

import time

from yottabench.client import Client

GPU = {"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}


def main(tasks: int = 5) -> None:
    with Client() as client:
        endpoint = client.endpoints.create(
            name="log-tail",
            image="sim/echo",
            resources=[GPU],
            workers=1,
            container_volume_in_gb=20,
            service_mode="QUEUE",
        )
        while not (workers := client.workers.list(endpoint.id)):
            time.sleep(0.1)
        for number in range(tasks):
            client.tasks.submit(endpoint.id, {"number": number}, worker_port=8000, process_uri="/run")
        seen = 0
        # Without `follow` the iterator ends at the end of the log; with it, it waits for more.
        for line in client.workers.iterate_logs(endpoint.id, str(workers[0].worker_id), follow=True, poll_s=0.5):
            print(line.timestamp, line.log)
            seen += "task=" in line.log
            if seen == tasks:
                break
        client.endpoints.delete(endpoint.id)


if __name__ == "__main__":
    main()
