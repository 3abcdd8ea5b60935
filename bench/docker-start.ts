import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '@backend.ai/client';
import { delay, systemClock } from '@backend.ai/core';
import { engineSocket } from '@backend.ai/testing';
import { signedRequest } from '../tests/support/signed-request.ts';
import { type Bench, percentile } from './bench.ts';
import { openBareEngine } from './support/bare-container.ts';
import { inTurns } from './support/in-turns.ts';
import { startServers } from './support/servers.ts';
import { startAgents } from './support/start-agents.ts';
import { timed } from './support/timed.ts';

const image = 'backend.ai/python:3.11';

/** Between starts. */
const pauseMs = 400;

/**
 * One API call, `POST /session`, that answers when the session is RUNNING, beside a container with the same options that
 * nothing but the engine's client makes, until its runner answers. That one joins a network that is there, as the session
 * does while the agent has one ready; what it takes to make one as well is told beside it, of fewer rounds. Then many at
 * once, each with a network of its own, beside the most that the bare engine makes of as many in the same time.
 *
 * The manager and the agent are processes of their own, as operators run them, with PostgreSQL, Redis and etcd. Before
 * anything is measured they have made some sessions: what has just started runs code that is not compiled yet. Between
 * starts is a pause, as engines go on tidying up after a container for a while when they have answered that it is gone.
 */
export const bench: Bench = {
  name: 'docker-start',
  async run({ quick }) {
    const rounds = quick ? 5 : 40;
    const together = quick ? 8 : 50;
    const before = quick ? 4 : 100;
    const networkEvery = quick ? 2 : 4;
    const folder = mkdtempSync(join(tmpdir(), 'bench-docker-'));
    const bare = await openBareEngine(engineSocket(), image, folder);
    const servers = await startServers();
    const samples = { bare: [] as number[], network: [] as number[], ours: [] as number[] };
    const steps = new Samples();
    const bareSteps = new Samples();
    const credentials = { endpoint: `http://127.0.0.1:${servers.manager.port}`, ...servers.credentials };
    const client = createClient(credentials);
    const create = async (name: string): Promise<void> => {
      const answer = await signedRequest(credentials, 'POST', '/session', {
        body: {
          name,
          image,
          config: { resources: { cpu: '1', mem: '192m' }, resource_opts: { shmem: '64m' } },
          maxWaitSeconds: 300,
        },
      });
      const { status } = answer.body as { status?: string };
      if (status !== 'RUNNING') throw new Error(`the session ${name} is ${answer.text}`);
    };
    const destroy = async (name: string): Promise<void> => {
      await client.rpc.session.destroy.mutate({ session: name });
      await client.rpc.session.wait.query({ session: name, until: 'ended' }).catch(() => {});
    };
    try {
      await startAgents(servers, 1, engineSocket());
      await inTurns(before, 4, async (index) => {
        await create(`before-${index}`);
        await destroy(`before-${index}`);
      });
      for (let round = 0; round < rounds + 2; round++) {
        await delay(systemClock, pauseMs);
        const [bareMs, bareContainer] = await timed(() => bare.start());
        await bareContainer.end();
        if (round >= 2 && round % networkEvery === 0) {
          const [networkMs, withNetwork] = await timed(() => bare.startWithNetwork());
          await withNetwork.end();
          samples.network.push(networkMs);
        }
        await delay(systemClock, pauseMs);
        const askedAt = performance.timeOrigin + performance.now();
        const [ms] = await timed(() => create(`bench-${round}`));
        if (round >= 2) {
          samples.bare.push(bareMs);
          samples.ours.push(ms);
          const { timings, createdAt } = await client.rpc.session.get.query({ session: `bench-${round}` });
          const untilMs = (sinceCreationMs: number | null): number =>
            Date.parse(createdAt) + (sinceCreationMs ?? Number.NaN) - askedAt;
          const [placedMs, runsMs] = [untilMs(timings.scheduledMs), untilMs(timings.runningMs)];
          steps.add('call until it is placed', placedMs);
          for (const { step, ms } of timings.steps) steps.add(`agent step ${step}`, ms);
          const inStepsMs = timings.steps.reduce((sum, step) => sum + step.ms, 0);
          steps.add('order, event, and RUNNING written', runsMs - placedMs - inStepsMs);
          steps.add('from there to the answer', ms - runsMs);
          for (const [step, ms] of Object.entries(bareContainer.steps)) bareSteps.add(step, ms);
        }
        await destroy(`bench-${round}`);
      }

      const bareRates: Array<[string, number]> = [];
      for (const width of [4, 8]) {
        const containers: Array<{ end(): Promise<void> }> = [];
        const [ms] = await timed(() =>
          inTurns(together, width, async () => void containers.push(await bare.startWithNetwork())),
        );
        bareRates.push([`bare engine, ${width} at a time`, (together * 1_000) / ms]);
        await inTurns(containers.length, width, (index) => containers[index]!.end());
      }
      const names = Array.from({ length: together }, (_, index) => `many-${index}`);
      const [manyMs, outcomes] = await timed(() => Promise.allSettled(names.map((name) => create(name))));
      const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
      for (const failure of failures) console.error(String(failure));
      const rate = ((together - failures.length) * 1_000) / manyMs;
      await Promise.all(names.map((name) => destroy(name).catch(() => {})));
      const best = Math.max(...bareRates.map(([, value]) => value));

      const at = (values: number[], fraction: number): number => percentile(values, fraction);
      const row = (name: string, values: number[]): Array<string | number> => [name, at(values, 0.5), at(values, 0.99)];
      const bareOf = (name: string): Array<string | number> => {
        const values = bareSteps.of(besideBare[name] ?? '');
        return values.length > 0 ? [at(values, 0.5), at(values, 0.99)] : ['', ''];
      };
      const over = (fraction: number): number => at(samples.ours, fraction) - at(samples.bare, fraction);
      const within = (name: string, value: number, limit: number, unit = 'ms') => ({
        ...{ name, value, limit, unit },
        ok: value <= limit,
      });
      return {
        title: `From the API call to RUNNING in a container (${rounds} sessions one after another, then ${together} at once)`,
        columns: ['what', 'p50 ms', 'p99 ms', 'bare p50', 'bare p99'],
        rows: [
          [
            'bare: created, started, runner answers, in a network made for it',
            '',
            '',
            ...row('', samples.network).slice(1),
          ],
          [
            'POST /session to RUNNING; bare: the same in a network that is there',
            at(samples.ours, 0.5),
            at(samples.ours, 0.99),
            at(samples.bare, 0.5),
            at(samples.bare, 0.99),
          ],
          ['  difference', over(0.5), over(0.99), '', ''],
          ...steps.names.map((name) => [...row(`  ${name}`, steps.of(name)), ...bareOf(name)]),
          ...bareRates.map(([name, value]) => [`${name}: ${value.toPrecision(3)} per second`, '', '', '', '']),
          [`${together} sessions at once: ${rate.toPrecision(3)} per second`, '', '', '', ''],
        ],
        targets: [
          within('added to bare, p50', over(0.5), 15),
          within('added to bare, p99', over(0.99), 40),
          within(`failures of ${together} at once`, failures.length, 0, 'sessions'),
          { name: 'rate to the bare best', value: rate / best, limit: 0.8, unit: '×', ok: rate / best >= 0.8 },
        ],
      };
    } finally {
      await servers.stop();
      await bare.close();
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

/** Which bare step does what one of ours does. */
const besideBare: Readonly<Record<string, string>> = {
  'agent step create-container': 'create',
  'agent step start-container': 'start',
  'agent step await-runner': 'ping',
};

/** Measurements by name. */
class Samples {
  readonly #values = new Map<string, number[]>();

  get names(): string[] {
    return [...this.#values.keys()];
  }

  add(name: string, ms: number): void {
    this.#values.set(name, [...this.of(name), ms]);
  }

  of(name: string): number[] {
    return this.#values.get(name) ?? [];
  }
}
