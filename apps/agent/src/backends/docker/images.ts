import type { Image, KernelSpec } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { Engine } from './engine.ts';
import { type ImageFacts, imageFacts, kernelLabel, offeredImage } from './image-facts.ts';

/** Where images of kernels come from. */
export interface ImageStore {
  /**
   * The image is in the engine when this returns.
   * @throws AppError `unknown-image`
   */
  ensure(spec: KernelSpec, signal: AbortSignal): Promise<ImageFacts>;
  /** Those that can be started without fetching anything. */
  list(): Promise<Image[]>;
}

/** Images that are in the engine already; nothing is fetched. */
export class LocalImages implements ImageStore {
  readonly #engine: Engine;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  async ensure({ image }: KernelSpec, signal: AbortSignal): Promise<ImageFacts> {
    const description = await this.#engine.inspectImage(image, signal);
    if (description) return imageFacts(image, description);
    throw new AppError('unknown-image', `The container engine of this agent does not have the image "${image}".`, {
      data: { image },
    });
  }

  async list(): Promise<Image[]> {
    const found = await this.#engine.listImages({ label: [kernelLabel] });
    const names = found.flatMap(({ RepoTags }) => (RepoTags ?? []).filter((tag) => !tag.includes('<none>')));
    const described = await Promise.all(
      names.sort().map(async (name) => {
        const description = await this.#engine.inspectImage(name);
        return description ? [offeredImage(imageFacts(name, description))] : [];
      }),
    );
    return described.flat();
  }
}
