// Reads {secret, deliveries: [{headers, body}]} from standard input; prints for each delivery true or what was wrong.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const { secret, deliveries } = JSON.parse(readFileSync(0, "utf8"));
const verifier = new Webhook(secret);
const verdicts = deliveries.map(({ headers, body }) => {
  try {
    verifier.verify(body, headers);
    return true;
  } catch (error) {
    return error.message;
  }
});
console.log(JSON.stringify(verdicts));
