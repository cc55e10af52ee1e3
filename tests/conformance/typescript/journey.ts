// What a client does that another generator made from openapi/serverless.yaml: create, submit, wait, list, read logs,
// delete. Prints what it saw as one JSON line; every call is checked by the compiler against the generated types.
import { client } from "./generated/client.gen";
import {
  createEndpoint,
  deleteEndpoint,
  getEndpointById,
  getTaskById,
  getTaskCount,
  getWorkerLogs,
  listTasks,
  listWorkers,
  submitTask,
} from "./generated/sdk.gen";
import type { CreateEndpointRequest, Task, TaskStatus } from "./generated/types.gen";

const POLL_MS = 20;
const POLLS_MAX = 1500;
const [url, key] = process.argv.slice(2);
if (!url || !key) throw new Error("usage: journey.js URL KEY");

client.setConfig({ baseUrl: url, auth: key });

// The code of the envelope decides, whatever the HTTP status is.
function data<T>(answer: { data?: { code: number; message: string; data: T }; error?: unknown }): T {
  if (answer.data?.code !== 10000) throw new Error(JSON.stringify(answer.error ?? answer.data));
  return answer.data.data;
}

async function until<T>(look: () => Promise<T>, done: (found: T) => boolean): Promise<T> {
  for (let poll = 0; poll < POLLS_MAX; poll++) {
    const found = await look();
    if (done(found)) return found;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new Error("not in time");
}

async function main(): Promise<void> {
  const asked: CreateEndpointRequest = {
    name: "typescript",
    image: "sim/echo",
    resources: [{ region: "us-east-1", gpuType: "NVIDIA_L4_24G", gpuCount: 1 }],
    workers: 1,
    containerVolumeInGb: 20,
    serviceMode: "QUEUE",
  };
  const { id } = data(await createEndpoint({ body: asked }));
  const path = { id };
  const workers = await until(
    async () => data(await listWorkers({ path, query: { statusList: "RUNNING" } })),
    (found) => found.length === 1,
  );
  const ids: string[] = [];
  for (const prompt of ["é 😀", "b", "c"]) {
    const body = { input: { prompt }, workerPort: 8000, processUri: "/v1/echo", headers: { "X-From": "typescript" } };
    ids.push(data(await submitTask({ path, body })).taskId);
  }
  const ended: TaskStatus[] = ["SUCCESS", "DELIVERED", "FAILED"];
  const tasks: Task[] = [];
  for (const taskId of ids) {
    const look = async (): Promise<Task> => data(await getTaskById({ path: { id, taskId } }));
    tasks.push(await until(look, (task) => ended.includes(task.status)));
  }
  const page = data(await listTasks({ path, query: { pageNumber: 1, pageSize: 2, status: "SUCCESS" } }));
  const { processing } = data(await getTaskCount({ path }));
  const workerId = workers[0]?.id ?? "";
  const logs = await until(
    async () => data(await getWorkerLogs({ path: { id, workerId }, query: { keyword: `task=${ids[0]} ` } })),
    (found) => found.logs.length > 0,
  );
  const refused = await submitTask({ path, body: { input: 1, workerPort: 65536, processUri: "/" } });
  const deleted = data(await deleteEndpoint({ path }));
  const gone = await getEndpointById({ path });
  console.log(
    JSON.stringify({
      id,
      ids,
      outputs: tasks.map((task) => task.output),
      listed: page.items.map((task) => task.taskId),
      pages: [page.page, page.size, page.total, page.pages],
      processing,
      logLines: logs.logs.length,
      refused: refused.error?.code,
      deleted,
      gone: gone.error?.code,
    }),
  );
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
