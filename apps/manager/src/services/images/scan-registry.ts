import { AppError, hasCode } from '@backend.ai/core';
import type { RegistryClient } from '../../clients/registry/registry-client.ts';
import { type FoundImage, type ScanFailure, scanImage } from './scan-image.ts';

export interface RegistryScan {
  readonly client: Pick<RegistryClient, 'ping' | 'repositories' | 'tags' | 'manifest' | 'jsonBlob'>;
  /** Only these and what is below them; empty: all. */
  readonly only: readonly string[];
  /** What is known of a repository already, by manifest digest. */
  readonly known: (repository: string) => ReadonlyMap<string, FoundImage>;
  /** Takes in what one repository has. What is said of `failedTags` stays as it was. */
  readonly keep: (repository: string, images: readonly FoundImage[], failedTags: readonly string[]) => Promise<void>;
  readonly tell: (progress: { readonly current: number; readonly total: number; readonly message: string }) => void;
}

/** Registries bear so much at once from one client. */
const parallel = 4;

/**
 * Reads all that a registry has. What cannot be read is told of and stays as it was; the rest is taken in, repository by
 * repository. Answers which repositories there are.
 * @throws AppError when the registry cannot be asked at all
 */
export async function scanRegistry(scan: RegistryScan): Promise<{ repositories: string[]; failures: ScanFailure[] }> {
  const { client, keep, known, tell } = scan;
  await client.ping();
  const repositories = await repositoriesOf(scan);
  const failures: ScanFailure[] = [];
  let current = 0;
  tell({ current, total: repositories.length, message: '' });
  await inParallel(repositories, async (repository) => {
    try {
      const images: FoundImage[] = [];
      const failedTags: string[] = [];
      for (const tag of await client.tags(repository)) {
        try {
          const found = await scanImage(client, repository, tag, known(repository));
          images.push(...found.images);
          failures.push(...found.failures);
          if (found.failures.length > 0) failedTags.push(tag);
        } catch (thrown) {
          failures.push(failureOf(`${repository}:${tag}`, thrown));
          failedTags.push(tag);
        }
      }
      await keep(repository, images, failedTags);
    } catch (thrown) {
      // Its last tag was deleted: registries go on listing it.
      if (hasCode(thrown, 'image-not-found')) await keep(repository, [], []);
      else failures.push(failureOf(repository, thrown));
    }
    current += 1;
    tell({ current, total: repositories.length, message: repository });
  });
  return { repositories, failures };
}

async function repositoriesOf({ client, only }: RegistryScan): Promise<string[]> {
  try {
    const all = await client.repositories();
    if (only.length === 0) return all;
    return all.filter((name) => only.some((wanted) => name === wanted || name.startsWith(`${wanted}/`)));
  } catch (thrown) {
    // Public registries show nobody their catalogue: then the names that were given are those that there are.
    if (only.length > 0 && hasCode(thrown, 'registry-denied', 'image-not-found')) return [...only].sort();
    throw thrown;
  }
}

/** What ends all of it is thrown; everything else is of one image. */
function failureOf(image: string, thrown: unknown): ScanFailure {
  const error = AppError.from(thrown);
  if (error.code === 'cancelled') throw error;
  return { image, error };
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const waiting = items[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (let next = waiting.next(); !next.done; next = waiting.next()) await work(next.value);
  };
  await Promise.all(Array.from({ length: Math.min(parallel, items.length) }, worker));
}
