import { type Image, imageSchema, maxAgentImages } from '@backend.ai/contract';
import {
  type Clock,
  canonicalArchitecture,
  compareNames,
  findImageReference,
  type ImageReference,
  parseImageReference,
  readImageLabels,
} from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import type { EngineImage, ImageEngine } from './image-engine.ts';

export interface InstalledImagesOptions {
  readonly engine: Pick<ImageEngine, 'list' | 'inspect'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How often the engine is asked, in milliseconds: others put images there, too. */
  readonly tickMs: number;
  readonly onChange?: ((images: readonly Image[]) => void) | undefined;
}

/**
 * The images that the engine has and that say of themselves that they are made for sessions. Other images of the machine
 * are nobody's business; those that a registry offers can be used whether they say so or not.
 */
export class InstalledImages {
  readonly #options: InstalledImagesOptions;
  readonly #loop: ReconcileLoop;
  /** What does not change as long as the id stays. */
  #inspected = new Map<string, EngineImage>();
  #images: readonly Image[] = [];

  constructor(options: InstalledImagesOptions) {
    this.#options = options;
    const { clock, logger, tickMs } = options;
    this.#loop = new ReconcileLoop({ name: 'scan images', tickMs, clock, logger, run: () => this.scan() });
  }

  /** Another array whenever they have changed. */
  get images(): readonly Image[] {
    return this.#images;
  }

  start(): void {
    this.#loop.start();
  }

  /** They have changed, as far as is known here. */
  hint(): void {
    this.#loop.hint();
  }

  stop(): Promise<void> {
    return this.#loop.stop();
  }

  /** @throws what the engine says when it cannot be asked; then they stay as they were */
  async scan(): Promise<void> {
    const { engine, onChange } = this.#options;
    const inspected = new Map<string, EngineImage>();
    const images = new Map<string, Image>();
    for (const { id, names } of await engine.list()) {
      const found = this.#inspected.get(id) ?? (await engine.inspect(id));
      // It went away meanwhile.
      if (!found) continue;
      inspected.set(id, found);
      for (const name of names) {
        const image = offered(name, found);
        if (image && images.size < maxAgentImages) images.set(name, image);
      }
    }
    this.#inspected = inspected;
    const sorted = withPlainNames([...images.values()].sort((a, b) => (a.name < b.name ? -1 : 1)));
    if (JSON.stringify(sorted) === JSON.stringify(this.#images)) return;
    this.#images = sorted;
    onChange?.(sorted);
  }
}

/** Undefined: it is not for sessions, or bears a name that nobody could ask for. */
function offered(name: string, { id, labels, architecture }: EngineImage): Image | undefined {
  const facts = readImageLabels(labels);
  const reference = findImageReference(name);
  if (!facts.isKernel || !reference) return undefined;
  const { language, minSlots, maxSlots, shmem, role, accelerators } = facts;
  const image = imageSchema.safeParse({
    ...{ name, language, minSlots, maxSlots, shmem, role, digest: id },
    ...(accelerators.length > 0 ? { accelerators } : {}),
    aliases: otherNames(name, reference),
    architecture: canonicalArchitecture(architecture),
  });
  return image.success ? image.data : undefined;
}

/**
 * `python` means the newest of its versions. A name that images of several registries have is nobody's: whatever somebody
 * puts into the engine must not become what others mean.
 */
export function withPlainNames(images: readonly Image[]): Image[] {
  const origins = new Map<string, Set<string | undefined>>();
  const newest = new Map<string, Image>();
  for (const image of images) {
    const { registry, repository } = parseImageReference(image.name);
    origins.set(repository, (origins.get(repository) ?? new Set()).add(registry));
    const before = newest.get(repository);
    if (!before || compareNames(before.name, image.name) < 0) newest.set(repository, image);
  }
  return images.map((image) => {
    const { repository } = parseImageReference(image.name);
    const isMeant = newest.get(repository) === image && origins.get(repository)?.size === 1;
    return isMeant ? { ...image, aliases: [...image.aliases, repository] } : image;
  });
}

/** Without its registry, and without the tag that is meant when none is said. */
function otherNames(name: string, { repository, tag }: ImageReference): string[] {
  const names = [`${repository}:${tag}`];
  if (tag === 'latest') names.push(name.replace(/:latest$/, ''));
  return [...new Set(names)].filter((each) => each !== name);
}
