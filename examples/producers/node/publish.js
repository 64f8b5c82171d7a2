// node publish.js SUBJECT ID BODY: hands one job to a pool, and exits 0 once the broker holds it.
import { jetstream } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const [subject, id, body] = process.argv.slice(2);
const nc = await connect({ servers: process.env.NATS_URL });
try {
  // Sent twice under one id, it is one job. After an error nobody knows whether the broker has the
  // job: send it again, under the same id.
  const ack = await jetstream(nc).publish(subject, body, { msgID: id });
  console.log(`stream ${ack.stream} sequence ${ack.seq} duplicate ${ack.duplicate}`);
} finally {
  await nc.close();
}
