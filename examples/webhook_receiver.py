"""A webhook receiver: results come by themselves, checked, once each, and waits end as soon as they do.

Run it as first_task.py. The emulator sends to this machine; for the live service give the receiver the public url=
under which it is reachable, or mount `receiver.wsgi` or `receiver.asgi` in your web application.
"""

from yottabench.client import Client, Receiver, TaskResult

GPU = {"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}


def on_task(result: TaskResult) -> None:
    """Called once for each task. If it raises, the service sends the result again."""
    what = result.output if result.succeeded else result.error
    # On a thread of the receiver's: written in one piece, so that no line of the main thread comes between.
    print(f"webhook: task {result.task_id} says {what}\n", end="")


def main() -> None:
    # Each receiver makes a key of its own; tasks are submitted with it, and only who knows it is let in.
    with Receiver(on_task) as receiver, Client() as client:
        endpoint = client.endpoints.create(
            name="webhooks",
            image="sim/echo",
            resources=[GPU],
            workers=1,
            container_volume_in_gb=20,
            service_mode="QUEUE",
        )
        for number in range(3):
            task = client.tasks.submit_and_wait(
                endpoint.id,
                {"number": number},
                worker_port=8000,
                process_uri="/run",
                task_id=f"webhook_{number}",
                receiver=receiver,
            )
            print(f"waited: task {task.task_id} is {task.status}")
        client.endpoints.delete(endpoint.id)


if __name__ == "__main__":
    main()
