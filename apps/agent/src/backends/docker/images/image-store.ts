import type { AgentImageState, ImageSource } from '@backend.ai/contract';
import { AppError, type Clock, canonicalArchitecture, findImageReference } from '@backend.ai/core';
import type { BackgroundTasks } from '@backend.ai/telemetry';
import type { EngineImage, ImageEngine } from './image-engine.ts';
import { SharedPulls } from './shared-pulls.ts';

export interface ImageStoreOptions {
  readonly engine: ImageEngine;
  readonly clock: Clock;
  readonly tasks: BackgroundTasks;
  /** Of this machine: `x86_64`. */
  readonly architecture: string;
  /** A fetch that says nothing new for so long has failed, in milliseconds. */
  readonly pullStallMs: number;
}

export interface WantedImage {
  /** Canonical name. */
  readonly name: string;
  /** Absent: it has to be there. */
  readonly source?: ImageSource | undefined;
}

const maxFailures = 100;

/** Images of one engine: those that are there, and how others get there. */
export class ImageStore {
  readonly #options: ImageStoreOptions;
  readonly #pulls: SharedPulls;
  /** Why the last fetch in the background failed, by name of the image. */
  readonly #failures = new Map<string, AppError>();
  readonly #closed = new AbortController();

  constructor(options: ImageStoreOptions) {
    this.#options = options;
    this.#pulls = new SharedPulls({ ...options, stallMs: options.pullStallMs });
  }

  /**
   * The image, fetched if its policy has it.
   * @param onPull Called before it is fetched, and only then.
   * @throws AppError `unknown-image` when it is not there and may not be fetched, or is for another architecture;
   * `image-pull-denied`, `image-not-found`, `image-pull-failed`, `cancelled`
   */
  async ensure(wanted: WantedImage, signal: AbortSignal, onPull: () => void = () => {}): Promise<EngineImage> {
    const image = (await this.#find(wanted)) ?? (await this.#fetch(wanted, signal, onPull));
    const { architecture } = this.#options;
    if (canonicalArchitecture(image.architecture) !== architecture) {
      throw new AppError(
        'unknown-image',
        `The image ${wanted.name} is for ${image.architecture}, not ${architecture}.`,
      );
    }
    return image;
  }

  /** Fetches in the background what is not there. */
  preload(wanted: WantedImage): void {
    this.#failures.delete(wanted.name);
    this.#options.tasks.start('preload image', async () => {
      try {
        await this.ensure(wanted, this.#closed.signal);
      } catch (thrown) {
        const [oldest] = this.#failures.keys();
        if (oldest !== undefined && this.#failures.size >= maxFailures) this.#failures.delete(oldest);
        this.#failures.set(wanted.name, AppError.from(thrown));
      }
    });
  }

  async state(name: string): Promise<AgentImageState> {
    const progress = this.#pulls.progress(name) ?? null;
    const image = await this.#options.engine.inspect(name);
    const failure = this.#failures.get(name);
    return {
      state: progress ? 'pulling' : image ? 'present' : 'absent',
      digest: image?.id ?? null,
      progress,
      failure: failure ? { code: failure.code, message: failure.message } : null,
    };
  }

  /** False: it was not there. @throws AppError `image-in-use` */
  async purge(name: string, forced: boolean): Promise<boolean> {
    return await this.#options.engine.remove(name, { forced });
  }

  /** Gives up what nobody but this agent waits for. */
  close(): void {
    this.#closed.abort();
  }

  async #find({ name, source }: WantedImage): Promise<EngineImage | null> {
    const { engine } = this.#options;
    if (source?.pullPolicy !== 'digest') return await engine.inspect(name);
    const image = (await engine.inspect(source.digest)) ?? (await engine.inspect(fetchedAs(name, source)));
    // The name may mean another one by now, or none.
    if (image && !image.names.includes(name)) await engine.tag(image.id, name);
    return image;
  }

  async #fetch({ name, source }: WantedImage, signal: AbortSignal, onPull: () => void): Promise<EngineImage> {
    const { engine } = this.#options;
    if (!source || source.pullPolicy === 'none') {
      throw new AppError('unknown-image', `This agent does not have the image ${name}, and is not to fetch it.`);
    }
    onPull();
    const reference = fetchedAs(name, source);
    await this.#pulls.join(reference, { name, credentials: source.credentials }, signal);
    const image = await engine.inspect(reference);
    if (!image) {
      throw new AppError('image-pull-failed', `The image ${name} vanished after it was fetched.`, {
        data: { image: name, reason: 'vanished' },
      });
    }
    await engine.tag(image.id, name);
    return image;
  }
}

/** By digest: what its tag means may have changed since the manager saw it. */
function fetchedAs(name: string, { manifestDigest }: ImageSource): string {
  const reference = findImageReference(name);
  if (!reference?.registry) throw new AppError('invalid-input', `${name} names no registry.`);
  return `${reference.registry}/${reference.repository}@${manifestDigest}`;
}
