import { type FakeApi, type FakeSession, startFakeApi } from '@backend.ai/client/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCli } from '../../testing/run-cli.ts';

let api: FakeApi;
beforeEach(async () => {
  api = await startFakeApi();
});
afterEach(() => api[Symbol.asyncDispose]());

const cli = (line: string) => runCli(line.split(' '), { api });

async function waitingSession(): Promise<FakeSession> {
  api.pendingPolls = Number.POSITIVE_INFINITY;
  await cli('session create --name demo --enqueue-only python');
  const session = [...api.sessions.values()][0] as FakeSession;
  session.enter('PENDING', 'insufficient-resources', 'No agent has enough free.');
  session.waiting = {
    resourceGroup: 'default',
    policy: 'fifo',
    position: 2,
    queueLength: 3,
    priority: { asked: 10, now: 0 },
    reasons: [
      {
        code: 'insufficient-resources',
        message: 'No agent has enough free: 4 cpu asked, at most 1 cpu free.',
        data: { lacking: { cpu: { asked: '4', mostFree: '1' } } },
      },
    ],
    agents: {
      total: 2,
      open: 0,
      byObstacle: [{ obstacle: 'lacks-resources', agents: 2 }],
      nearest: [
        {
          agent: null,
          obstacles: ['lacks-resources'],
          lacking: { mem: { asked: '1073741824', free: '0', capacity: '0' } },
        },
        { agent: 'i-two', obstacles: ['lacks-resources'], lacking: { cpu: { asked: '4', free: '1', capacity: '4' } } },
      ],
    },
    ways: [
      [{ kind: 'wait-for-sessions', text: 'once other ended', facts: { sessions: { known: [], others: 1 } } }],
      [
        { kind: 'go-first', text: 'with priority 11', facts: { priority: 11 } },
        { kind: 'raise-kernel-limit', text: 'if an agent might hold 2 kernels', facts: { to: 2 } },
      ],
    ],
    preemption: null,
    estimate: { at: '2030-01-01T00:00:00.000Z', basis: 'time-limits' },
  };
  return session;
}

describe('session explain', () => {
  it('tells of a waiting session the gist, its place, reasons, ways to start and agents', async () => {
    await waitingSession();
    const { exitCode, stdout } = await cli('session explain demo');
    expect(exitCode).toBe(0);
    expect(stdout.split('\n')[0]).toBe('demo is PENDING: No agent has enough free.');
    for (const text of [
      '2 of 3 in default (fifo)',
      '0 instead of 10: it found no room for long',
      '0 of 2 could take it',
      '2030-01-01T00:00:00.000Z, when running sessions reach their time limits',
      '4 cpu asked, at most 1 cpu free',
      '  once other ended\n  with priority 11, and if an agent might hold 2 kernels\n',
      'It has not enough free.',
      'mem=1g asked, mem=0',
      'cpu=4 asked, cpu=1 free',
    ])
      expect(stdout).toContain(text);
    expect(stdout).toMatch(/#1 .*\n.*i-two/);
  });

  it.each([
    [{ mode: 'terminate', byNextPass: true, from: null }, 'With the next pass, these would be ended for it:'],
    [
      { mode: 'reschedule', byNextPass: false, from: null },
      'Once nothing else stands in its way, these would go back to the queue for it:',
    ],
    [
      { mode: 'terminate', byNextPass: false, from: '2030-01-01T00:00:00.000Z' },
      'Once nothing else stands in its way, and they have run for long enough at 2030-01-01T00:00:00.000Z, these would be ended',
    ],
  ] as const)('tells who would leave for it (%o)', async (how, title) => {
    const session = await waitingSession();
    const mine = { known: [{ id: 'id-of-mine', name: 'mine' }], others: 2 };
    const preemption = {
      ...how,
      sessions: mine,
      agents: [
        { agent: 'i-one', placed: 1, ended: 3, sessions: mine },
        { agent: null, placed: 0, ended: 1, sessions: { known: [], others: 1 } },
      ],
    };
    session.waiting = { ...session.waiting!, preemption };
    const { stdout } = await cli('session explain demo');
    expect(stdout).toContain(title);
    expect(stdout).toMatch(/i-one +1 +3 +mine \(id-of-mine\), 2 of others\n#2 +0 +1 +1 of others/);
    expect((await cli('session explain demo --json')).json).toMatchObject({ explanation: { waiting: { preemption } } });
    session.waiting = { ...session.waiting, preemption: null };
    expect((await cli('session explain demo')).stdout).not.toContain('for it:');
  });

  it('tells why a session was placed where it is', async () => {
    await cli('session create --name demo python');
    const [session] = [...api.sessions.values()] as FakeSession[];
    session!.placement = {
      at: '2030-01-01T00:00:00.000Z',
      backfilled: true,
      victims: null,
      decisions: [
        {
          agentId: 'i-one',
          strategy: 'dispersed',
          suitable: 5,
          candidates: 3,
          rank: [0, 1],
          key: { unutilised: 0, free: { cpu: '7' } },
        },
      ],
    };
    const { stdout } = await cli('explain demo');
    expect(stdout).toContain('passing a session that waits for resources');
    expect(stdout).toMatch(/i-one +dispersed, refused before +5 +3 +cpu=7/);
    const victims = { known: [{ id: 'id-of-mine', name: 'mine' }], others: 1 };
    const decisions = session!.placement.decisions.map((decision) => ({ ...decision, freed: { cpu: '60' } }));
    session!.placement = { ...session!.placement, victims, decisions };
    const made = (await cli('explain demo')).stdout;
    expect(made).toMatch(/FREE BEFORE +MADE FREE FOR IT/);
    expect(made).toMatch(/cpu=7 +cpu=60/);
    expect(made).toContain('Made room for it: mine (id-of-mine), 1 of others');
  });

  it('tells of a session whose place others still have to leave who they are, and until when it waits for that', async () => {
    await cli('session create --name demo python');
    const [session] = [...api.sessions.values()] as FakeSession[];
    session!.reserved = {
      since: '2030-01-01T00:00:00.000Z',
      until: '2030-01-01T00:10:00.000Z',
      mode: 'reschedule',
      leaving: { known: [{ id: 'id-of-mine', name: 'mine' }], others: 0 },
      left: { known: [], others: 2 },
      expectedBy: '2030-01-01T00:02:00.000Z',
    };
    const { stdout } = await cli('explain demo');
    expect(stdout).toMatch(/leaving +mine \(id-of-mine\) \(back to the queue\)/);
    expect(stdout).toMatch(/left +2 of others/);
    expect(stdout).toMatch(/expected +by 2030-01-01T00:02:00.000Z/);
    expect(stdout).toMatch(/or else +it waits again after 2030-01-01T00:10:00.000Z/);
  });

  it('is a document with --json', async () => {
    const { view, waiting } = await waitingSession();
    expect((await cli('session explain demo --json')).json).toMatchObject({
      explanation: { sessionId: view.id, status: 'PENDING', waiting },
    });
  });

  it('is what commands point to that show a waiting session', async () => {
    await waitingSession();
    const pointer = './backend.ai session explain demo';
    expect((await cli('session info demo')).stdout).toContain(pointer);
    expect((await cli('ps')).stdout).toContain('No agent has enough free.');
    expect((await cli('session create --name demo --max-wait 1 python')).stdout).toContain(`why: ${pointer}`);
  });
});
