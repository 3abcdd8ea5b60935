import { AppError, canonicalArchitecture } from '@backend.ai/core';
import { z } from 'zod';
import { type FetchedManifest, manifestTypes, type RegistryClient } from '../../clients/registry/registry-client.ts';
import { storableText } from '../../repositories/json-text.ts';

/** An image for one architecture, as a registry has it. */
export interface FoundImage {
  readonly tag: string;
  readonly architecture: string;
  /** Of the configuration. */
  readonly digest: string;
  readonly manifestDigest: string;
  /** Compressed. */
  readonly sizeBytes: number;
  /** Those that begin with `ai.backend.`. */
  readonly labels: Readonly<Record<string, string>>;
}

export interface ScanFailure {
  /** `repository:tag`, or a repository whose tags cannot be listed. */
  readonly image: string;
  readonly error: AppError;
}

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const size = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const listSchema = z.object({
  manifests: z.array(
    z.object({
      mediaType: z.string().optional(),
      digest,
      platform: z.object({ architecture: z.string(), os: z.string() }).optional(),
    }),
  ),
});
const manifestSchema = z.object({
  config: z.object({ mediaType: z.string().optional(), digest, size }),
  layers: z.array(z.object({ size })),
});
const configSchema = z.object({
  architecture: z.string().min(1).max(32),
  os: z.string().default('linux'),
  config: z.object({ Labels: z.record(z.string(), z.unknown()).nullish() }).nullish(),
});

const lists: readonly string[] = [manifestTypes.dockerList, manifestTypes.ociIndex];
const singles: readonly string[] = [manifestTypes.dockerManifest, manifestTypes.ociManifest];
/** What is kept of one label, and how many: images come from strangers. */
const maxLabelLength = 8_192;
const maxLabels = 200;

/**
 * What one tag means: an image, or one for each architecture. What is no image for Linux is left out; one architecture
 * that cannot be read is a failure of its own.
 * @param known Images by manifest digest, which need not be read again: a digest means the same for ever.
 * @throws AppError when the tag itself cannot be read
 */
export async function scanImage(
  client: Pick<RegistryClient, 'manifest' | 'jsonBlob'>,
  repository: string,
  tag: string,
  known: ReadonlyMap<string, FoundImage>,
): Promise<{ images: FoundImage[]; failures: ScanFailure[] }> {
  const manifest = await client.manifest(repository, tag);
  const read = async (single: FetchedManifest): Promise<FoundImage> => {
    const same = known.get(single.digest);
    return same ? { ...same, tag } : await readSingle(client, repository, tag, single);
  };
  if (!lists.includes(manifest.mediaType)) return { images: [await read(manifest)], failures: [] };
  const images = new Map<string, FoundImage>();
  const failures: ScanFailure[] = [];
  for (const entry of parse(listSchema, manifest.document, 'list of manifests').manifests) {
    // Attestations stand in lists for a platform that does not exist.
    if (entry.platform && (entry.platform.os !== 'linux' || entry.platform.architecture === 'unknown')) continue;
    try {
      const found = await read(await client.manifest(repository, entry.digest));
      if (!images.has(found.architecture)) images.set(found.architecture, found);
    } catch (thrown) {
      const error = AppError.from(thrown);
      if (error.code === 'cancelled') throw error;
      failures.push({ image: `${repository}:${tag} (${entry.platform?.architecture ?? entry.digest})`, error });
    }
  }
  return { images: [...images.values()], failures };
}

async function readSingle(
  client: Pick<RegistryClient, 'jsonBlob'>,
  repository: string,
  tag: string,
  { mediaType, digest: manifestDigest, document }: FetchedManifest,
): Promise<FoundImage> {
  if (!singles.includes(mediaType)) throw unusable(`its manifest is of the kind ${mediaType || 'that nobody states'}`);
  const { config, layers } = parse(manifestSchema, document, 'manifest');
  if (
    config.mediaType !== undefined &&
    !/container\.image\.v1\+json$|oci\.image\.config\.v1\+json$/.test(config.mediaType)
  ) {
    throw unusable(`it is no container image but ${config.mediaType}`);
  }
  const image = parse(configSchema, await client.jsonBlob(repository, config.digest), 'configuration');
  if (image.os !== 'linux') throw unusable(`it is for ${image.os}`);
  return {
    tag,
    architecture: storableText(canonicalArchitecture(image.architecture)),
    digest: config.digest,
    manifestDigest,
    sizeBytes: layers.reduce((sum, layer) => sum + layer.size, config.size),
    labels: ourLabels(image.config?.Labels ?? {}),
  };
}

function ourLabels(labels: Readonly<Record<string, unknown>>): Record<string, string> {
  const ours = Object.entries(labels).flatMap(([name, value]): Array<[string, string]> => {
    if (!name.startsWith('ai.backend.') || name.length > 256) return [];
    return [[storableText(name), storableText(String(value).slice(0, maxLabelLength))]];
  });
  return Object.fromEntries(ours.slice(0, maxLabels));
}

function parse<T>(schema: z.ZodType<T>, document: unknown, what: string): T {
  const parsed = schema.safeParse(document);
  if (parsed.success) return parsed.data;
  throw new AppError('registry-answer-invalid', `Its ${what} is not what it should be.`, {
    detail: parsed.error.issues,
  });
}

function unusable(why: string): AppError {
  return new AppError('registry-answer-invalid', `It cannot be used: ${why}.`);
}
