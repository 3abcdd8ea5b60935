import type { Writable } from 'node:stream';
import { writeFields, writeTable } from '@backend.ai/cli-kit';
import type { SessionExplanation } from '@backend.ai/client';
import { agentObstacles } from '@backend.ai/core';
import { slotsText } from './session-texts.ts';

/** How an explanation is told to people: the gist first, then tables. */
export function writeExplanation(stream: Writable, explanation: SessionExplanation): void {
  const { headline, waiting, reserved, placement, reasons } = explanation;
  stream.write(`${headline}\n`);
  if (waiting) writeWaiting(stream, waiting);
  if (reserved) writeReservation(stream, reserved);
  if (placement) writePlacement(stream, placement);
  stream.write('\nWhat was said of it:\n');
  writeTable(
    stream,
    ['at', 'status', 'why'],
    reasons.map(({ at, status, message }) => [at, status, message]),
  );
}

type Waiting = NonNullable<SessionExplanation['waiting']>;

function writeWaiting(stream: Writable, waiting: Waiting): void {
  const { position, queueLength, resourceGroup, policy, agents, reasons, ways, priority } = waiting;
  stream.write('\n');
  writeFields(stream, [
    ['queue', `${position} of ${queueLength} in ${resourceGroup} (${policy})`],
    ['priority', priorityText(priority)],
    ['agents', `${agents.open} of ${agents.total} could take it`],
    ['expected', expectedText(waiting.estimate)],
  ]);
  if (reasons.length > 0) {
    stream.write('\nIt waits because:\n');
    writeTable(
      stream,
      ['code', 'why'],
      reasons.map(({ code, message }) => [code, message]),
    );
  }
  if (ways.length > 0) {
    stream.write('\nIt would start, smallest change first:\n');
    for (const way of ways) stream.write(`  ${way.map(({ text }) => text).join(', and ')}\n`);
  }
  if (waiting.preemption) writePreemption(stream, waiting.preemption);
  if (agents.byObstacle.length > 0) {
    stream.write('\nWhat stands against agents:\n');
    writeTable(
      stream,
      ['agents', 'why'],
      agents.byObstacle.map(({ obstacle, agents: count }) => [String(count), agentObstacles[obstacle]]),
    );
    stream.write('\nThe nearest:\n');
    writeTable(
      stream,
      ['agent', 'against it', 'lacks'],
      agents.nearest.map(({ agent, obstacles, lacking }, index) => [
        agent ?? `#${index + 1}`,
        obstacles.join(', ') || '-',
        Object.entries(lacking)
          .map(
            ([slot, { asked, free }]) => `${slotsText({ [slot]: asked })} asked, ${slotsText({ [slot]: free })} free`,
          )
          .join('; ') || '-',
      ]),
    );
  }
}

function priorityText({ asked, now }: Waiting['priority']): string {
  if (asked === now) return String(now);
  return `${now} instead of ${asked}: it found no room for long, and lets lower priorities pass, but none of its equals that came later`;
}

function writePreemption(stream: Writable, preemption: NonNullable<Waiting['preemption']>): void {
  const { mode, byNextPass, from, agents } = preemption;
  const fate = mode === 'terminate' ? 'be ended' : 'go back to the queue';
  const turn = byNextPass ? 'With the next pass' : 'Once nothing else stands in its way';
  const when = from === null ? turn : `${turn}, and they have run for long enough at ${from}`;
  stream.write(`\n${when}, these would ${fate} for it:\n`);
  writeTable(
    stream,
    ['agent', 'its kernels there', 'kernels that end', 'sessions'],
    agents.map(({ agent, placed, ended, sessions }, index) => [
      agent ?? `#${index + 1}`,
      String(placed),
      String(ended),
      sessionsText(sessions),
    ]),
  );
}

function sessionsText({ known, others }: NonNullable<Waiting['preemption']>['sessions']): string {
  const rest = others === 0 ? [] : [`${others} of others`];
  return [...known.map(({ id, name }) => `${name} (${id})`), ...rest].join(', ') || '-';
}

const bases: Readonly<Record<Waiting['estimate']['basis'], string>> = {
  'next-pass': 'with the next pass of the scheduler',
  'start-moment': 'as it asked for',
  'time-limits': 'when running sessions reach their time limits',
  preemption: 'when others have run for long enough to make room',
  history: 'as sessions started lately',
  unknown: 'nobody knows',
};

function expectedText({ at, basis }: Waiting['estimate']): string {
  return at === null ? bases[basis] : `${at}, ${bases[basis]}`;
}

function writeReservation(stream: Writable, reserved: NonNullable<SessionExplanation['reserved']>): void {
  const { mode, leaving, left, expectedBy, until } = reserved;
  const fate = mode === 'terminate' ? 'ended' : 'back to the queue';
  stream.write('\n');
  writeFields(stream, [
    ['leaving', `${sessionsText(leaving)} (${fate})`],
    ['left', sessionsText(left)],
    ['expected', expectedBy === null ? bases['next-pass'] : `by ${expectedBy}, when the last of them has to have left`],
    ['or else', `it waits again after ${until}`],
  ]);
}

function writePlacement(
  stream: Writable,
  { at, decisions, backfilled, victims }: NonNullable<SessionExplanation['placement']>,
): void {
  stream.write(`\nPlaced at ${at}${backfilled ? ', passing a session that waits for resources' : ''}:\n`);
  writeTable(
    stream,
    ['agent', 'chosen by', 'suitable', 'with room', 'free before', ...(victims ? ['made free for it'] : [])],
    decisions.map(({ agentId, strategy, suitable, candidates, rank, key, freed = {} }) => [
      agentId,
      [strategy, ...(rank[0] ? ['not preferred'] : []), ...(rank[1] ? ['refused before'] : [])].join(', '),
      String(suitable),
      String(candidates),
      'free' in key ? slotsText(key.free) : `turn ${key.index}`,
      ...(victims ? [slotsText(freed) || '-'] : []),
    ]),
  );
  if (victims) stream.write(`Made room for it: ${sessionsText(victims)}\n`);
}
