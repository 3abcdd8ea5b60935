import type { ConfigDefinition, ConfigShape, Dependency, LoadedConfig, RunningService } from '@backend.ai/runtime';
import type { Logger } from '@backend.ai/telemetry';
import type { Env } from '../known-cluster.ts';

/** Connections that are open while dependencies are checked. */
export interface OpenDependencies {
  readonly dependencies: readonly Dependency[];
  close(): Promise<void>;
}

export interface StartContext {
  readonly logger: Logger;
  readonly env: Env;
  readonly cwd: string;
}

/** What `config show` and `config check` need of a component. */
export interface ConfiguredComponent<Shape extends ConfigShape> {
  /** Of its commands in the help: `Manager`. */
  readonly title: string;
  readonly version: string;
  readonly configuration: ConfigDefinition<Shape>;
  /** What it takes for settings that are not set and have no fixed default, by key: for `config show`. */
  derived?(config: LoadedConfig<Shape>): Readonly<Record<string, unknown>>;
}

/** What an app supplies to have `health` and `start-server`, too. */
export interface Component<Shape extends ConfigShape> extends ConfiguredComponent<Shape> {
  /** How each thing is asked that the component cannot work without. Does not fail when one of them does not answer. */
  openDependencies(config: LoadedConfig<Shape>, context: Omit<StartContext, 'logger'>): Promise<OpenDependencies>;
  /** Loads what is large only here: the other commands are to start quickly. */
  start(config: LoadedConfig<Shape>, context: StartContext): Promise<RunningService>;
  /** All of stopping, in milliseconds. */
  stopDeadlineMs(config: LoadedConfig<Shape>): number;
}
