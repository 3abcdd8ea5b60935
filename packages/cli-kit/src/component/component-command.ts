import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { AppError, parseRequestId } from '@backend.ai/core';
import {
  type ConfigShape,
  type ConfigSources,
  callAdminSocket,
  type FlagValue,
  type LoadedConfig,
  loadConfig,
  NoAnswer,
} from '@backend.ai/runtime';
import { Option } from 'clipanion';
import { BaseCommand } from '../base-command.ts';
import { dataDirectory } from '../known-cluster.ts';
import { parsePairs } from '../option-values.ts';
import type { ConfiguredComponent } from './component.ts';

/** A call of the component that runs, and what to tell people of whom nobody takes it. */
export interface ComponentCall {
  /** Path of its admin socket. */
  readonly socket: string;
  readonly method: string;
  readonly params?: Record<string, unknown>;
  readonly timeoutMs: number;
  readonly absent: { readonly message: string; readonly hint: string };
  /** `message` without the time that was waited. */
  readonly silent: { readonly message: string; readonly hint: string };
}

/** A command of a component: reads its configuration from `--config`, the environment and `--set`. */
export abstract class ComponentCommand<Shape extends ConfigShape> extends BaseCommand {
  configFile = Option.String('--config', {
    description: `Configuration file (default ${this.configured().configuration.defaultFile})`,
  });
  set = Option.Array('--set', [], { description: 'Overrule one setting: --set section.key=value' });

  /** A method, as options are described before fields of subclasses are set. */
  protected abstract configured(): ConfiguredComponent<Shape>;

  /** Settings that options of this command name. They win over `--set`. */
  protected namedFlags(): FlagValue[] {
    return [];
  }

  /**
   * The folder of the embedded cluster that the command is about; undefined: what a configuration file describes. Said
   * by `--data-dir` or `--config`, else by $BACKEND_DATA_DIR, else by whether the default file is there.
   */
  protected embeddedFolderOf(dataDir: string | undefined): string | undefined {
    const { env, cwd } = this.context;
    if (dataDir !== undefined) return resolve(cwd, dataDir);
    if (this.configFile !== undefined) return undefined;
    const isConfigured = !env.BACKEND_DATA_DIR && existsSync(resolve(cwd, this.configured().configuration.defaultFile));
    return isConfigured ? undefined : resolve(cwd, dataDirectory(env));
  }

  protected get sources(): ConfigSources {
    const { context } = this;
    const flags = Object.entries(parsePairs('--set', this.set)).map(([key, text]) => {
      return { key, text, flag: `--set ${key}` };
    });
    return { file: this.configFile, env: context.env, cwd: context.cwd, flags: [...flags, ...this.namedFlags()] };
  }

  /** @throws AppError `config-invalid` */
  protected loadConfig(): LoadedConfig<Shape> {
    const config = loadConfig(this.configured().configuration, this.sources);
    this.warn(config.warnings);
    return config;
  }

  protected warn(warnings: readonly string[]): void {
    for (const warning of warnings) this.context.stderr.write(`Warning: ${warning}\n`);
  }

  /** @throws AppError `server-unreachable` when it does not run, `deadline-exceeded` when it hangs; what it answers */
  protected async callComponent<T>({ socket, method, params, timeoutMs, absent, silent }: ComponentCall): Promise<T> {
    const requestId = parseRequestId(this.context.requestId);
    try {
      return await callAdminSocket<T>(socket, method, params, { timeoutMs, ...(requestId && { requestId }) });
    } catch (cause) {
      if (!(cause instanceof NoAnswer)) throw cause;
      if (cause.why !== 'silent')
        throw new AppError('server-unreachable', absent.message, { hint: absent.hint, cause });
      const message = `${silent.message} ${timeoutMs / 1000} s.`;
      throw new AppError('deadline-exceeded', message, { hint: silent.hint, cause });
    }
  }

  /** Who speaks, and on the ground of which file. */
  protected sayBanner(config: Pick<LoadedConfig, 'file' | 'fileFound'>): void {
    const { title, version } = this.configured();
    this.say(`Backend.AI ${title} ${version}`);
    this.say(`Config: ${config.file}${config.fileFound ? '' : ' (not there: defaults, environment and flags)'}`);
  }
}
