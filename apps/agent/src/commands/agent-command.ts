import { join, resolve } from 'node:path';
import { BaseCommand, dataDirectory } from '@backend.ai/cli-kit';
import { AppError, hasCode, parseRequestId } from '@backend.ai/core';
import { callAdminSocket } from '@backend.ai/runtime';
import { Option } from 'clipanion';
import type { AgentStatusView } from '../agent.ts';

/** A command that asks the agent of this machine through its admin socket. */
export abstract class AgentCommand extends BaseCommand {
  dataDir = Option.String('--data-dir', {
    description: 'Data folder of the cluster that the agent belongs to (or $BACKEND_DATA_DIR)',
  });

  /** @throws AppError `server-unreachable` when no agent runs */
  protected async status(): Promise<AgentStatusView> {
    const { context } = this;
    const folder = resolve(context.cwd, this.dataDir ?? dataDirectory(context.env));
    const requestId = parseRequestId(context.requestId);
    try {
      const options = requestId === undefined ? {} : { requestId };
      return await callAdminSocket<AgentStatusView>(join(folder, 'run', 'agent.sock'), 'status', {}, options);
    } catch (cause) {
      if (!hasCode(cause, 'server-unreachable')) throw cause;
      throw new AppError('server-unreachable', `No agent runs on ${folder}.`, { cause });
    }
  }
}
