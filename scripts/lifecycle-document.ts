import {
  kernelStatuses,
  kernelStatusesOf,
  kernelTransitions,
  promotions,
  sessionStatuses,
  statusReasons,
  statusTransitions,
  transientDeadlines,
} from '@backend.ai/core';

/** `docs/dev/lifecycle.md`: the tables of states, rules, deadlines and reasons as a page. `npm run configs` writes it. */
export function lifecycleDocument(): string {
  return `${[
    '# Lifecycle of sessions and kernels',
    'Made from `packages/core/src/status.ts` by `npm run configs`; a test compares.',
    '## States of a session',
    table(
      ['state', 'may be followed by', 'its kernels are'],
      sessionStatuses.map((status) => [status, list(statusTransitions[status]), list(kernelStatusesOf[status])]),
    ),
    '## States of a kernel',
    'Going back to the queue is no step of a kernel: each attempt to start is a kernel of its own.',
    table(
      ['state', 'may be followed by'],
      kernelStatuses.map((status) => [status, list(kernelTransitions[status])]),
    ),
    '## A session follows its kernels',
    'The first rule that fits counts, in the statement that moves the kernel.',
    table(
      ['session in', 'when', 'becomes', 'reason'],
      promotions.map(({ from, every, some, main, tolerant, to, reason }) => [
        list(from),
        [
          ...(every ? [`every kernel is ${either(every)}`] : []),
          ...(some ? [`some kernel is ${either(some)}`] : []),
          ...(main ? [`the main kernel is ${either(main)}`] : []),
          ...(tolerant ? ['it tolerates the loss of sub kernels'] : []),
        ].join('; '),
        to,
        reason ?? 'that of the kernel',
      ]),
    ),
    '## Deadlines',
    'Every state that is to pass has one; `deadlinesMs` in the configuration of managers changes it.',
    table(
      ['state', 'at most', 'what ends it before', 'then', 'reason'],
      Object.entries(transientDeadlines).map(([status, { afterMs, healing, next, reason }]) => [
        status,
        `${afterMs / 1_000} s`,
        healing,
        next,
        reason,
      ]),
    ),
    'RUNNING passes only when something happens. A kernel that its agent does not report any more is lost (`kernel-lost`) once the agent says so when it is asked, or, where nobody can ask it, when no heartbeat has had the kernel for `agentLostGraceMs`: after that time the kernels of an agent that is not heard of at all are given up, too (`agent-lost`).',
    '## Reason codes',
    table(
      ['code', 'meaning'],
      Object.entries(statusReasons).map(([code, text]) => [`\`${code}\``, text]),
    ),
  ].join('\n\n')}\n`;
}

function table(head: readonly string[], rows: ReadonlyArray<readonly string[]>): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function list(statuses: readonly string[]): string {
  return statuses.length === 0 ? '–' : statuses.join(', ');
}

function either(statuses: readonly string[]): string {
  return statuses.join(' or ');
}
