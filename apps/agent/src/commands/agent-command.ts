import { dirname } from 'node:path';
import { ComponentCommand } from '@backend.ai/cli-kit';
import { AppError, hasCode, parseRequestId } from '@backend.ai/core';
import { adminSocketPath, callAdminSocket, clusterLayout } from '@backend.ai/runtime';
import { Option } from 'clipanion';
import type { AgentStatusView } from '../agent.ts';
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

  protected override readonly component = agentComponent;

  /** @throws AppError `server-unreachable` when no agent runs */
  protected status(): Promise<AgentStatusView> {
    return this.ask('status');
  }

  /**
   * Calls a method of `admin-handlers.ts`.
   * @throws AppError `server-unreachable` when no agent runs
   */
  protected async ask<T>(method: string, params: Record<string, unknown> = {}, timeoutMs?: number): Promise<T> {
    const { folder, socket, hint } = this.#place();
    const requestId = parseRequestId(this.context.requestId);
    try {
      const options = { ...(requestId === undefined ? {} : { requestId }), ...(timeoutMs ? { timeoutMs } : {}) };
      return await callAdminSocket<T>(socket, method, params, options);
    } catch (cause) {
      if (!hasCode(cause, 'server-unreachable')) throw cause;
      throw new AppError('server-unreachable', `No agent runs on ${folder}.`, { hint, cause });
    }
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
