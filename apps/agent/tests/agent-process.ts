import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createLogger } from '@backend.ai/telemetry';
import { Agent, type AgentOptions } from '../src/index.ts';

// From the start: timers of the clock keep no process alive, and nothing listens yet.
setInterval(() => {}, 60_000);

/** An agent in a process of its own, so that a test can kill it or run it as somebody else. Its input: options as JSON. */
const { identity, killedAfter, ...options } = JSON.parse(readFileSync(0, 'utf8'));
const agent = Agent.create({
  ...options,
  identity: { ...identity, privateKey: createPrivateKey(identity.privateKey) },
  logger: createLogger({ component: 'agent', level: 'warn' }),
  faults: {
    after: (step) => {
      if (step === killedAfter) process.kill(process.pid, 'SIGKILL');
    },
  },
} as AgentOptions);
await agent.start();
await agent.registered;
process.stdout.write('ready\n');
process.on('SIGTERM', () => {
  void agent
    .endKernels()
    .then(() => agent.close())
    .then(() => process.exit(0));
});
