import { writeFields } from '@backend.ai/cli-kit';
import type { SessionView } from '@backend.ai/client';
import { isTerminal } from '@backend.ai/core';
import { Command } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';
import { reasonOf, slotsText } from '../../session-texts.ts';
import { useText } from '../../statistics-texts.ts';

type IsolationReport = NonNullable<SessionView['kernels'][number]['isolation']>;

export class SessionInfo extends SessionCommand {
  static override paths = [['session', 'info'], ['info']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Show one session: state, reason, resources, timings',
    examples: [['Why it waits, or where it runs', '$0 session info my-session']],
  });

  override async perform(): Promise<undefined> {
    const { session: view, statistics } = await (await this.connect()).sessions.inspect(this.session);
    if (this.json) return void this.printJson({ session: view });
    const { timings } = view;
    const isolation = view.kernels.find((kernel) => kernel.role === 'main')?.isolation;
    const rows: [string, string | null | undefined][] = [
      ['name', view.name],
      ['id', view.id],
      ['status', view.status],
      ['paused', view.pausedAt],
      ['why', reasonOf(view)],
      ['more', view.status === 'PENDING' ? `./backend.ai session explain ${view.name}` : null],
      ['image', `${view.image} (${view.architecture})`],
      ['resources', slotsText(view.requested)],
      ['uses', isTerminal(view.status) ? null : useText(statistics)],
      ['type', view.type === 'interactive' ? null : view.type],
      ['result', view.result === 'undefined' ? null : view.result],
      ['priority', view.options.priority === 10 ? null : String(view.options.priority)],
      ['starts after', view.startedAt === null ? view.options.startsAt : null],
      ['time limit', view.options.timeoutMs === null ? null : `${view.options.timeoutMs / 1000} s`],
      ['ports', view.options.preopenPorts.join(', ')],
      ['agents', [...new Set(view.kernels.map((kernel) => kernel.agent ?? '-'))].join(', ')],
      ['isolation', isolation && isolationText(isolation)],
      ['tag', view.tag],
      ['created', view.createdAt],
      ['started', view.startedAt],
      ['ended', view.terminatedAt],
      ['scheduled after', timings.scheduledMs === null ? null : `${timings.scheduledMs} ms`],
      ['running after', timings.runningMs === null ? null : `${timings.runningMs} ms`],
      ['start steps', timings.steps.map(({ step, ms }) => `${step} ${Math.round(ms)} ms`).join(', ')],
      [
        'exit code',
        view.kernels
          .map((kernel) => kernel.exitCode)
          .find((code) => code !== null)
          ?.toString(),
      ],
      ['request id', view.requestId],
    ];
    writeFields(
      this.context.stdout,
      rows.filter((row): row is [string, string] => row[1] !== null && row[1] !== undefined && row[1] !== ''),
    );
  }
}

/** `bubblewrap; a user id of its own; memory by cgroup; processes by rlimit; cpu not limited; network of the machine` */
function isolationText({ sandbox, ownUid, memory, processes, cpu, network, machine, egress }: IsolationReport): string {
  const limit = (what: string, means: string): string => `${what} ${means === 'none' ? 'not limited' : `by ${means}`}`;
  return [
    sandbox === 'none' ? 'no sandbox' : sandbox,
    ownUid ? 'a user id of its own' : 'no user id of its own',
    limit('memory', memory),
    limit('processes', processes),
    limit('cpu', cpu),
    network === 'host' ? 'network of the machine' : 'a network of its own',
    ...(machine === 'open' ? ['reaches the ports of the machine'] : []),
    ...(egress === 'enforced' ? ['egress policies hold'] : []),
  ].join('; ');
}
