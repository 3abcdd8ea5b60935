import { engineSocketFor } from '@backend.ai/agent';
import { loginFile, parsePort, readCluster } from '@backend.ai/cli-kit';
import { Option, UsageError } from 'clipanion';
import { type ClusterConfig, defaultPort } from '../config.ts';
import { ClusterCommand } from './cluster-command.ts';

/** Of the container engine that DOCKER_HOST names; else that of the cluster's agent. Engines behind TCP see other files. */
export function engineSocketOf({ DOCKER_HOST = '', ...environment }: NodeJS.ProcessEnv, agentDir: string): string {
  return /^unix:\/\/(\/.+)$/.exec(DOCKER_HOST)?.[1] ?? engineSocketFor(agentDir, environment);
}

/** A command that may start one. */
export abstract class StartingCommand extends ClusterCommand {
  port = Option.String('--port', {
    description: `Port of the API on the loopback, 0 for any free one (default ${defaultPort})`,
  });
  allowUnisolated = Option.Boolean('--allow-unisolated', false, {
    description: 'Run programs without a sandbox if this machine offers none',
  });
  backend = Option.String('--backend', 'auto', {
    description:
      'What makes kernels: docker (containers), process (sandboxes), fake (simulated); auto: docker if it has an image for them, else process (default auto)',
  });
  accelerators = Option.Array('--accelerator', {
    description: 'Accelerator plugin: cuda, rocm, mock, or the path of a module (default: those whose tools are found)',
  });
  acceleratorSettings = Option.Array('--accelerator-setting', {
    description: 'Of a plugin: mock.devices-file=/path/devices.toml, mock.allocation-mode=fractional',
  });
  logLevel = Option.String('--log-level', 'info', { description: 'debug, info, warn or error' });

  protected get engineSocket(): string {
    return engineSocketOf(this.context.env, this.directory.agent);
  }

  /** A saved login comes before this cluster: who just started it should know why commands ask elsewhere. */
  protected async noteLogin(endpoint: string): Promise<void> {
    const file = loginFile(this.context.env);
    const login = await readCluster(file).catch(() => undefined);
    if (login === undefined || login.endpoint === endpoint) return;
    this.note(`Commands ask ${login.endpoint}, as the login in ${file} says; forget it with: ./backend.ai logout`);
  }

  protected get config(): Partial<ClusterConfig> & { readonly dataDir: string } {
    const { port, backend, logLevel, allowUnisolated } = this;
    if (backend !== 'auto' && backend !== 'docker' && backend !== 'process' && backend !== 'fake') {
      throw new UsageError('--backend is auto, docker, process or fake.');
    }
    if (logLevel !== 'debug' && logLevel !== 'info' && logLevel !== 'warn' && logLevel !== 'error') {
      throw new UsageError('--log-level is debug, info, warn or error.');
    }
    const settings = (this.acceleratorSettings ?? []).map((text) => /^([^=]+)=(.*)$/s.exec(text)?.slice(1) ?? [text]);
    const wrong = settings.find(([, value]) => value === undefined);
    if (wrong) throw new UsageError(`--accelerator-setting takes PLUGIN.SETTING=VALUE, not "${wrong[0]}".`);
    const { PATH } = this.context.env;
    return {
      dataDir: this.directory.root,
      backend,
      logLevel,
      allowUnisolated,
      accelerators: { plugins: this.accelerators ?? ['auto'], settings: Object.fromEntries(settings) },
      ...(port === undefined ? {} : { port: parsePort('--port', port) }),
      ...(PATH ? { path: PATH } : {}),
      engineSocket: this.engineSocket,
    };
  }
}
