"""The first task: make an endpoint, submit a chat request, wait for its answer.

Start the emulator with `yottabench serve`, and run this with

    YOTTA_BASE_URL=http://127.0.0.1:8080 YOTTA_API_KEY=me python examples/first_task.py

For the live service leave YOTTA_BASE_URL out, and name an image of your own: sim/llm exists only in the emulator.
"""

from yottabench.client import Client, TaskFailed, YottaError

GPU = {"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}
CHAT = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}


def main() -> None:
    with Client() as client:
        endpoint = client.endpoints.create(
            name="first-task",
            image="sim/llm",
            resources=[GPU],
            workers=1,
            container_volume_in_gb=20,
            service_mode="QUEUE",
        )
        try:
            # No need to wait for the worker: tasks are queued until it is ready.
            task = client.tasks.submit_and_wait(
                endpoint.id, CHAT, worker_port=8000, process_uri="/v1/chat/completions", timeout_s=120, check=True
            )
            print("answer:", task.output["choices"][0]["message"]["content"])
        except TaskFailed as error:
            print("the worker failed:", error.task.error)
        except YottaError as error:
            print("no answer:", error)
        finally:
            client.endpoints.delete(endpoint.id)


if __name__ == "__main__":
    main()
