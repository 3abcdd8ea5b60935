import type { Client, Session } from '@backend.ai/client';
import { waitFor } from '@backend.ai/testing';
import type { TestInstallation } from './installation.ts';

/** Resolves when a new session has run through this manager. */
export async function runsSessions(installation: TestInstallation, manager: 1 | 2): Promise<void> {
  await waitFor(async () => (await printed(installation.client(manager))) === '42\n', {
    timeoutMs: 60_000,
    intervalMs: 200,
    what: `a session runs through manager ${manager}`,
  });
}

async function printed(client: Client): Promise<string> {
  await using session = await client.sessions.create({ image: 'python', resources: { cpu: '1', mem: '128m' } });
  await session.waitUntilRunning({ timeoutMs: 20_000 });
  return await output(session, 'print(6 * 7)');
}

/** What a program in the session prints. */
export async function output(session: Session, code: string): Promise<string> {
  const run = session.run(code, { timeoutMs: 20_000 });
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
  await session.waitUntilRunning({ timeoutMs: 20_000 });
  await output(session, 'kept = "still here"');
  return {
    session,
    async remembers(manager) {
      await waitFor(
        async () => {
          const same = await installation.client(manager).sessions.get(session.id);
          return (await output(same, 'print(kept)')) === 'still here\n';
        },
        { timeoutMs: 60_000, intervalMs: 200, what: `the session answers through manager ${manager}` },
      );
    },
  };
}
