import type { AgentStatusView } from '@backend.ai/agent';
import { callAdminSocket, firstSignal } from '@backend.ai/runtime';
import { Command, Option } from 'clipanion';
import { Cluster } from '../cluster.ts';
import { startDetached } from '../cluster-process.ts';
import { launcherPath } from './launcher-path.ts';
import { StartingCommand } from './starting-command.ts';

const startTimeoutMs = 60_000;

export class UpCommand extends StartingCommand {
  static override paths = [['up']];
  static override usage = Command.Usage({
    category: 'Cluster',
    description: 'start a whole cluster on this machine',
    details: `
      One process with everything in it: database, manager and agent. It stays until Ctrl-C, or in the background with
      --detach. Sessions end with it unless told otherwise.
    `,
    examples: [
      ['Start and stay', '$0 up'],
      ['Start in the background', '$0 up --detach'],
    ],
  });

  detach = Option.Boolean('-d,--detach', false, { description: 'Return when it is ready; it goes on' });
  keepSessions = Option.Boolean('--keep-sessions', false, {
    description: 'Sessions outlive Ctrl-C or SIGTERM and are adopted by the next start; down has an option of its own',
  });

  async perform(): Promise<number> {
    return this.detach ? this.#background() : this.#foreground();
  }

  async #background(): Promise<number> {
    const { config, directory } = this;
    const argv = [
      launcherPath(),
      'up',
      '--json',
      ...['--data-dir', config.dataDir, '--backend', this.backend, '--log-level', this.logLevel],
      ...(this.port === undefined ? [] : ['--port', this.port]),
      ...(this.accelerators ?? []).flatMap((plugin) => ['--accelerator', plugin]),
      ...(this.acceleratorSettings ?? []).flatMap((setting) => ['--accelerator-setting', setting]),
      ...(this.allowUnisolated ? ['--allow-unisolated'] : []),
      ...(this.keepSessions ? ['--keep-sessions'] : []),
    ];
    const state = await startDetached(directory, { argv, timeoutMs: startTimeoutMs });
    if (this.json) this.printJson({ ...state });
    this.#warn(await callAdminSocket<AgentStatusView>(directory.agentSocket, 'status'));
    this.say(`The cluster is up at ${state.endpoint} (process ${state.pid}, data in ${state.dataDir}).`);
    const command = `${this.prefix}./backend.ai`;
    this.say(`Try: ${command} run python -c 'print(6 * 7)'   End it with: ${command} down`);
    await this.noteLogin(state.endpoint);
    return 0;
  }

  async #foreground(): Promise<number> {
    const signal = firstSignal();
    const cluster = await Cluster.start(this.config);
    const { endpoint } = cluster.credentials;
    this.#warn(cluster.agent.status());
    if (this.json) {
      this.printJson({ endpoint, pid: process.pid, startedAt: cluster.startedAt, timings: cluster.timings });
    }
    await this.noteLogin(endpoint);
    this.say(`The cluster is up at ${endpoint}. Ctrl-C ends it${this.keepSessions ? '; sessions go on' : ''}.`);
    const cause = await Promise.race([signal, cluster.stopped.then(() => undefined)]);
    if (cause !== undefined) {
      this.say(`Stopping (${cause}).`);
      await cluster.stop({ keepSessions: this.keepSessions });
    }
    return 0;
  }

  /** It is up all the same: during an outage sessions wait, and start by themselves later. */
  #warn({ outage, unusedEngine }: AgentStatusView): void {
    if (outage !== null) this.context.stderr.write(`No session starts yet: ${outage}\n`);
    if (unusedEngine !== null) this.note(`Kernels are sandboxed processes: ${unusedEngine}`);
  }
}
