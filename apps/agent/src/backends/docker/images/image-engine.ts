import type { PullProgress } from '@backend.ai/contract';

/** An image in the engine's store. */
export interface EngineImage {
  /** `sha256:…` of its configuration, or of its manifest in engines that keep images with containerd. */
  readonly id: string;
  readonly names: readonly string[];
  /** As the engine has it: `amd64`. */
  readonly architecture: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly environ: readonly string[];
  readonly sizeBytes: number;
}

export interface RegistryCredentials {
  readonly username: string;
  readonly password: string;
}

/** What images need of a container engine. */
export interface ImageEngine {
  /** By name, digest or id; null: it has none. */
  inspect(reference: string): Promise<EngineImage | null>;
  /** Ids of images that have names, without what only `inspect` tells. */
  list(): Promise<ReadonlyArray<{ readonly id: string; readonly names: readonly string[] }>>;
  /**
   * Fetches. Whoever aborts the signal ends the transfer.
   * @throws AppError `image-pull-denied`, `image-not-found`, `image-pull-failed`, `cancelled`
   */
  pull(reference: string, options: PullOptions): Promise<void>;
  tag(id: string, name: string): Promise<void>;
  /** False: there was none. @throws AppError `image-in-use` */
  remove(name: string, options: { readonly forced: boolean }): Promise<boolean>;
}

export interface PullOptions {
  readonly credentials?: RegistryCredentials | undefined;
  readonly signal: AbortSignal;
  /** Called with each sign of life. */
  readonly onProgress: (progress: PullProgress) => void;
}
