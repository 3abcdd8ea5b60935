import { type Component, ComponentCommand } from '@backend.ai/cli-kit';
import { parseRequestId } from '@backend.ai/core';
import { adminSocketPath, clusterLayout } from '@backend.ai/runtime';
import { ensureRequestId } from '@backend.ai/telemetry';
import { Option } from 'clipanion';
import type { Operator } from '../operator.ts';
import type { SchemaOperations } from '../schema-operations.ts';
import { type ManagerServerOptions, managerServerOptions } from '../server-config.ts';
import type { BackupReport } from '../services/backup/backup-service.ts';
import { type ManagerShape, managerComponent } from './component.ts';

/**
 * A command about an installation: that of a configuration file, on its stores (no manager need run), or an embedded
 * cluster, through its admin socket.
 */
export abstract class OperatorCommand extends ComponentCommand<ManagerShape> {
  dataDir = Option.String('--data-dir', {
    description: 'Work on the embedded cluster of this folder (or $BACKEND_DATA_DIR) instead of a configuration file',
  });

  protected override configured(): Component<ManagerShape> {
    return managerComponent;
  }

  /** Undefined: the installation of the configuration file. */
  protected get embeddedFolder(): string | undefined {
    return this.embeddedFolderOf(this.dataDir);
  }

  protected get serverOptions(): ManagerServerOptions {
    return managerServerOptions(this.loadConfig().values);
  }

  /**
   * @param timeoutMs Backups and the like take as long as they take
   * @throws AppError `server-unreachable` when no manager runs there, `deadline-exceeded` when it hangs
   */
  protected callManager<T>(method: string, params: Record<string, unknown> = {}, timeoutMs = 600_000): Promise<T> {
    const folder = this.embeddedFolder;
    return this.callComponent<T>({
      ...{ method, params, timeoutMs },
      ...(folder === undefined
        ? {
            socket: adminSocketPath(this.serverOptions.runDir, 'manager'),
            absent: { message: 'No manager runs here.', hint: 'Start it: ./backend.ai mgr start-server' },
          }
        : {
            socket: clusterLayout(folder).managerSocket,
            absent: {
              message: `No cluster runs on ${folder}, and no configuration file was found.`,
              hint: 'Start one: ./backend.ai up --detach   or name a file: --config configs/manager.toml',
            },
          }),
      silent: {
        message: 'The manager runs and says nothing for',
        hint: 'It is stopped or very busy: look at its log; if it stays so, end it and start it again.',
      },
    });
  }

  protected async withOperator<T>(work: (operator: Operator) => Promise<T>): Promise<T> {
    if (this.embeddedFolder !== undefined) return await work(await this.#remoteOperator());
    const options = this.serverOptions;
    return await this.#inRequest(async () => (await loadStores()).onStores(options, work));
  }

  /** For what must work with any schema, an older one too. */
  protected async withSchema<T>(work: (schema: SchemaOperations) => Promise<T>): Promise<T> {
    if (this.embeddedFolder !== undefined) return await work(await this.#remoteOperator());
    const options = this.serverOptions;
    return await this.#inRequest(async () => (await loadStores()).onDatabase(options, work));
  }

  /** On the empty stores of a configuration file. */
  protected async restore(file: string): Promise<BackupReport> {
    const options = this.serverOptions;
    return await this.#inRequest(async () => (await loadStores()).restoreStores(options, file));
  }

  #inRequest<T>(work: () => Promise<T>): Promise<T> {
    return ensureRequestId(work, parseRequestId(this.context.requestId));
  }

  async #remoteOperator(): Promise<Operator> {
    const { operatorMethods } = await import('../operator.ts');
    const methods = operatorMethods.map((name) => {
      return [name, (params: Record<string, unknown> = {}) => this.callManager(name, params)] as const;
    });
    return Object.fromEntries(methods) as unknown as Operator;
  }
}

/** Clients of three servers are large: loaded by commands that use them only. */
function loadStores(): Promise<typeof import('../operator-stores.ts')> {
  return import('../operator-stores.ts');
}
