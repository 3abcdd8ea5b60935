import { dirname } from 'node:path';
import { type Component, ComponentCommand } from '@backend.ai/cli-kit';
import { adminSocketPath, clusterLayout } from '@backend.ai/runtime';
import { Option } from 'clipanion';
import type { AgentStatusView } from '../agent-status.ts';
import { agentServerOptions } from '../server-config.ts';
import { type AgentShape, agentComponent } from './component.ts';

/**
 * A command that asks the agent of this machine through its admin socket: the one of a configuration file, or that of an
 * embedded cluster.
 */
export abstract class AgentCommand extends ComponentCommand<AgentShape> {
  dataDir = Option.String('--data-dir', {
    description: 'Ask the agent of the embedded cluster of this folder (or $BACKEND_DATA_DIR)',
  });

  protected override configured(): Component<AgentShape> {
    return agentComponent;
  }

  /** @throws AppError `server-unreachable` when no agent runs, `deadline-exceeded` when it hangs */
  protected status(): Promise<AgentStatusView> {
    return this.ask('status');
  }

  /**
   * Calls a method of `admin-handlers.ts`.
   * @throws AppError `server-unreachable` when no agent runs, `deadline-exceeded` when it hangs
   */
  protected ask<T>(method: string, params: Record<string, unknown> = {}, timeoutMs = 5_000): Promise<T> {
    const { folder, socket, hint } = this.#place();
    return this.callComponent<T>({
      ...{ socket, method, params, timeoutMs },
      absent: { message: `No agent runs on ${folder}.`, hint },
      silent: {
        message: `The agent on ${folder} runs and says nothing for`,
        hint: 'It is stopped or very busy: look at its log; if it stays so, start it again. Its kernels go on meanwhile.',
      },
    });
  }

  #place(): { readonly folder: string; readonly socket: string; readonly hint: string } {
    const folder = this.embeddedFolderOf(this.dataDir);
    if (folder === undefined) {
      const { runDir } = agentServerOptions(this.loadConfig().values, this.context.env.PATH ?? '');
      const socket = adminSocketPath(runDir, 'agent');
      return { folder: dirname(runDir), socket, hint: 'Start it: ./backend.ai ag start-server' };
    }
    return { folder, socket: clusterLayout(folder).agentSocket, hint: 'Start a cluster: ./backend.ai up --detach' };
  }
}
