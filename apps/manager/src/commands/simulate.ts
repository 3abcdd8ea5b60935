import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { BaseCommand, writeFields, writeTable } from '@backend.ai/cli-kit';
import { AppError, explainReason } from '@backend.ai/core';
import type { Plan, SchedulingPolicy, SelectionStrategy, Snapshot, WaitingExplanation } from '@backend.ai/scheduler';
import { Command, Option } from 'clipanion';
import { byId, changeText, reasonSentence } from '../services/explain/words.ts';

export class SimulateCommand extends BaseCommand {
  static override paths = [['mgr', 'simulate']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'show what the scheduler would do with a snapshot',
    details: `
      Reads what \`mgr scheduler snapshot\` wrote, or a changed copy of it (\`-\`: from standard input), and needs nothing
      else: no manager, no database.
      The same file gives the same answer, always.
    `,
    examples: [
      ['What happens next, and why the others wait', '$0 mgr simulate snapshot.json'],
      [
        'The same with another order and choice of agents',
        '$0 mgr simulate snapshot.json --policy drf --selection concentrated',
      ],
      ['All about one waiting session', '$0 mgr simulate snapshot.json --explain 0199c1de-8a54-7c1f-b4f5-0242ac120002'],
    ],
  });

  file = Option.String({ name: 'SNAPSHOT' });
  policy = Option.String('--policy', { description: 'Order of all queues: fifo, lifo, drf or fair-share' });
  selection = Option.String('--selection', {
    description: 'Choice among agents: concentrated, dispersed, roundrobin or legacy',
  });
  explained = Option.String('--explain', { description: 'Id of a waiting session: what would let it start, and when' });

  async perform(): Promise<number> {
    const { schedule, SchedulingState, parseSnapshot, schedulingPolicies, selectionStrategies } = await import(
      '@backend.ai/scheduler'
    );
    const snapshot = withOptions(parseSnapshot(await this.#read()), {
      scheduler: oneOf('--policy', this.policy, schedulingPolicies),
      selection: oneOf('--selection', this.selection, selectionStrategies),
    });
    if (this.explained !== undefined) {
      const explanation = new SchedulingState(snapshot).explain(this.explained, snapshot.now);
      if (!explanation) {
        throw new AppError('session-not-found', `No session ${this.explained} waits in the snapshot.`, {
          hint: 'Snapshots have no names: take one of the ids that mgr simulate lists without --explain.',
        });
      }
      if (this.json) this.printJson({ explanation });
      else this.#tell(explanation);
      return 0;
    }
    const plan = schedule(snapshot);
    if (this.json) this.printJson({ ...plan, reasons: Object.fromEntries(plan.reasons) });
    else this.#show(plan);
    return 0;
  }

  async #read(): Promise<string> {
    if (this.file === '-') return await text(this.context.stdin);
    return await readFile(resolve(this.context.cwd, this.file), 'utf8').catch((cause: unknown) => {
      throw new AppError('invalid-input', `${this.file} cannot be read.`, {
        hint: 'Make a snapshot: ./backend.ai mgr scheduler snapshot > snapshot.json',
        cause,
      });
    });
  }

  #show(plan: Plan): void {
    const { stdout } = this.context;
    const rows = [
      ...plan.placements.map(({ sessionId, kernels, backfilled }) => {
        return [sessionId, backfilled ? 'starts, passing others' : 'starts', agentsOf(kernels)];
      }),
      ...plan.reservations.map(({ sessionId, kernels, victims }) => {
        return [sessionId, `preempts ${victims.map((victim) => victim.sessionId).join(', ')}`, agentsOf(kernels)];
      }),
      ...[...plan.reasons].map(([sessionId, { code }]) => [sessionId, `waits: ${code}`, explainReason(code)]),
    ];
    if (rows.length === 0) this.say('No session waits.');
    else writeTable(stdout, ['session', 'what happens', 'where, or why not'], rows);
    for (const { sessionId, priority } of plan.deprioritised)
      this.say(`${sessionId} goes down to priority ${priority}.`);
  }

  #tell({ sessionId, reasons, agents, remedies, preemption, estimate, priority, ...rest }: WaitingExplanation): void {
    const why = reasons.map((reason) => `${reason.code}: ${reasonSentence(reason, byId)}`);
    writeFields(this.context.stdout, [
      ['Session', sessionId],
      ['Queue', `${rest.position} of ${rest.queueLength} in ${rest.resourceGroup} (${rest.policy})`],
      ...(priority.asked === priority.now
        ? []
        : [['Priority', `${priority.now} instead of ${priority.asked}`] as [string, string]]),
      ['Waits because', why.join('\n') || 'of nothing: it starts with the next pass'],
      ['Agents', `${agents.open} of ${agents.total} can take it now`],
      [
        'It would start',
        remedies.map((remedy) => remedy.map((change) => changeText(change, byId)).join(', and ')).join('\n') ||
          'by itself',
      ],
      [
        'Expected',
        estimate.at === null ? 'nobody knows' : `${new Date(estimate.at).toISOString()} (${estimate.basis})`,
      ],
    ]);
    if (!preemption) return;
    const fate = preemption.mode === 'terminate' ? 'be ended' : 'go back to the queue';
    const { from, byNextPass } = preemption;
    const turn = byNextPass ? 'With the next pass' : 'Once nothing else stands in its way';
    const when = from === null ? turn : `${turn}, and they have run for long enough at ${new Date(from).toISOString()}`;
    this.say(`\n${when}, these would ${fate} for it:`);
    writeTable(
      this.context.stdout,
      ['agent', 'its kernels there', 'kernels that end', 'sessions'],
      preemption.agents.map(({ agentId, placed, ended, sessions }) => {
        return [agentId, String(placed), String(ended), sessions.join(', ') || '-'];
      }),
    );
  }
}

function agentsOf(kernels: Plan['placements'][number]['kernels']): string {
  return [...new Set(kernels.map((kernel) => kernel.agentId))].join(', ');
}

function withOptions(
  snapshot: Snapshot,
  options: { scheduler: SchedulingPolicy | undefined; selection: SelectionStrategy | undefined },
): Snapshot {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const things = [
    ...snapshot.groups.map(({ name }) => name),
    ...snapshot.pending.map((session) => session.resourceGroup),
  ];
  const known = new Map(snapshot.groups.map((group) => [group.name, group]));
  const groups = [...new Set(things)].map((name) => ({ ...(known.get(name) ?? { name }), ...given }));
  return { ...snapshot, groups };
}

function oneOf<Name extends string>(
  option: string,
  value: string | undefined,
  allowed: readonly Name[],
): Name | undefined {
  const found = allowed.find((name) => name === value);
  if (value === undefined || found !== undefined) return found;
  throw new AppError('invalid-input', `${option} ${value} does not exist.`, {
    hint: `Choose one of ${allowed.join(', ')}.`,
  });
}
