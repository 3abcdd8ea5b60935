import type { Client, Session } from '@backend.ai/client';
import { type ErrorCode, hasCode, newId } from '@backend.ai/core';
import { waitFor } from '@backend.ai/testing';
import type { TestInstallation } from './installation.ts';

/**
 * Resolves when a new session has run through this manager. There is one session: after a fault its creation is asked for
 * again by the same name, and what was accepted has to run.
 */
export async function runsSessions(installation: TestInstallation, manager: 1 | 2): Promise<void> {
  const wants = { name: `runs-${newId().slice(-12)}`, image: 'python', resources: { cpu: '1', mem: '128m' } };
  const what = (step: string): string => `a session ${step} through manager ${manager}`;
  const client = installation.client(manager);
  await using session = await reached(() => client.sessions.create(wants), what('is created'));
  await reached(() => session.waitUntilRunning({ timeoutMs: 60_000 }), what('starts'));
  const printed = await reached(() => output(session, 'print(6 * 7)'), what('prints'));
  if (printed !== '42\n') throw new Error(`The session printed ${JSON.stringify(printed)}.`);
}

/**
 * What the product promises, in milliseconds: work goes on this long after what stopped it is gone. Held to that by
 * `./scripts/test.sh --soak`, on a machine that does nothing else.
 */
const recoveryMs = process.env.SOAK ? 10_000 : 40_000;

/**
 * To be called when the cause of a fault is gone: old and new sessions are served through both managers in the promised
 * time from now on.
 */
export async function recovers(installation: TestInstallation, { remembers }: RememberingSession): Promise<void> {
  const begun = performance.now();
  const both = [1, 2] as const;
  await Promise.all(both.flatMap((manager) => [remembers(manager), runsSessions(installation, manager)]));
  const took = Math.round(performance.now() - begun);
  if (took > recoveryMs) throw new Error(`Work went on ${took} ms after the fault, which is more than ${recoveryMs}.`);
}

/** What is said while the way is closed; on a busy machine it may be open again only after a deadline. */
const closed: readonly ErrorCode[] = [
  'server-unreachable',
  'connection-lost',
  'agent-unreachable',
  'shutting-down',
  'deadline-exceeded',
];

/** Tries again only while the way there is closed, as for some time after a fault; any other failure is one. */
async function reached<T>(work: () => Promise<T>, what: string): Promise<T> {
  const outcome = await waitFor(
    async () => {
      try {
        return { value: await work() };
      } catch (error) {
        if (hasCode(error, ...closed)) throw error;
        return { error };
      }
    },
    { intervalMs: 200, what },
  );
  if ('error' in outcome) throw outcome.error;
  return outcome.value;
}

/** What a program in the session prints. */
export async function output(session: Session, code: string): Promise<string> {
  const run = session.run(code, { timeoutMs: 60_000 });
  let text = '';
  for await (const [kind, data] of run) if (kind === 'stdout') text += String(data);
  return text;
}

/** A session with something in its memory. */
export interface RememberingSession {
  readonly session: Session;
  /** Resolves when it is still there, asked through this manager. */
  remembers(manager: 1 | 2): Promise<void>;
}

export async function rememberingSession(installation: TestInstallation, client: Client): Promise<RememberingSession> {
  const session = await client.sessions.create({ image: 'python', resources: { cpu: '1', mem: '128m' } });
  await session.waitUntilRunning({ timeoutMs: 60_000 });
  await output(session, 'kept = "still here"');
  return {
    session,
    async remembers(manager) {
      const answer = await reached(
        async () => output(await installation.client(manager).sessions.get(session.id), 'print(kept)'),
        `the session answers through manager ${manager}`,
      );
      if (answer !== 'still here\n') throw new Error(`The session answers ${JSON.stringify(answer)}.`);
    },
  };
}
