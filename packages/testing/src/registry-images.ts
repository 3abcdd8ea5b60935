import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';

/** Images put into a registry without a container engine. */
export interface PushedImage {
  readonly tag: string;
  readonly repository: string;
  /** Of the manifest, or of the list. */
  readonly manifestDigest: string;
  /** Of the configuration: the id of the image at an engine. Of a list: of its first image. */
  readonly digest: string;
}

export interface RegistryAccess {
  readonly url: string;
  readonly credentials?: { readonly username: string; readonly password: string } | undefined;
}

export interface ImageSpec {
  /** As engines say it: `amd64` unless given. */
  readonly architecture?: string;
  readonly labels?: Readonly<Record<string, unknown>>;
  /** Tar archives, not compressed; one without files unless given. */
  readonly layers?: readonly Buffer[];
}

const types = {
  docker: {
    manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    list: 'application/vnd.docker.distribution.manifest.list.v2+json',
    config: 'application/vnd.docker.container.image.v1+json',
    layer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  },
  oci: {
    manifest: 'application/vnd.oci.image.manifest.v1+json',
    list: 'application/vnd.oci.image.index.v1+json',
    config: 'application/vnd.oci.image.config.v1+json',
    layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  },
} as const;
export type ManifestKind = keyof typeof types;

/** A tar archive without files. */
export const emptyLayer: Buffer = Buffer.alloc(1024);

export class RegistryPusher {
  readonly #access: RegistryAccess;

  constructor(access: RegistryAccess) {
    this.#access = access;
  }

  async image(
    repository: string,
    tag: string,
    spec: ImageSpec = {},
    kind: ManifestKind = 'docker',
  ): Promise<PushedImage> {
    const { manifest, digest } = await this.#image(repository, spec, kind);
    const manifestDigest = await this.manifest(repository, tag, manifest, types[kind].manifest);
    return { repository, tag, manifestDigest, digest };
  }

  /** One tag for several architectures. */
  async list(
    repository: string,
    tag: string,
    specs: readonly ImageSpec[],
    kind: ManifestKind = 'docker',
  ): Promise<PushedImage> {
    const manifests: object[] = [];
    let first = '';
    for (const spec of specs) {
      const { manifest, digest } = await this.#image(repository, spec, kind);
      first ||= digest;
      const entry = await this.manifest(repository, digestOf(JSON.stringify(manifest)), manifest, types[kind].manifest);
      manifests.push({
        mediaType: types[kind].manifest,
        digest: entry,
        size: Buffer.byteLength(JSON.stringify(manifest)),
        platform: { architecture: spec.architecture ?? 'amd64', os: 'linux' },
      });
    }
    const list = { schemaVersion: 2, mediaType: types[kind].list, manifests };
    const manifestDigest = await this.manifest(repository, tag, list, types[kind].list);
    return { repository, tag, manifestDigest, digest: first };
  }

  /** Any document under a tag or digest; answers its digest. */
  async manifest(repository: string, reference: string, document: object, type: string): Promise<string> {
    const body = JSON.stringify(document);
    const path = `/v2/${repository}/manifests/${reference}`;
    await this.#send('PUT', `${this.#access.url}${path}`, Buffer.from(body), type, 201);
    return digestOf(body);
  }

  async blob(repository: string, content: Buffer): Promise<string> {
    const digest = digestOf(content);
    const begun = await this.#send(
      'POST',
      `${this.#access.url}/v2/${repository}/blobs/uploads/`,
      Buffer.alloc(0),
      '',
      202,
    );
    const location = new URL(begun.headers.get('location') ?? '', this.#access.url);
    location.searchParams.set('digest', digest);
    await this.#send('PUT', location.href, content, 'application/octet-stream', 201);
    return digest;
  }

  async #image(repository: string, spec: ImageSpec, kind: ManifestKind): Promise<{ manifest: object; digest: string }> {
    const layers = spec.layers ?? [emptyLayer];
    const config = JSON.stringify({
      architecture: spec.architecture ?? 'amd64',
      os: 'linux',
      config: { Labels: spec.labels ?? {}, Cmd: ['/bin/sh'] },
      rootfs: { type: 'layers', diff_ids: layers.map(digestOf) },
      history: layers.map(() => ({ created: '2030-01-01T00:00:00Z' })),
    });
    const digest = await this.blob(repository, Buffer.from(config));
    const packed = layers.map((layer) => gzipSync(layer));
    const manifest = {
      schemaVersion: 2,
      mediaType: types[kind].manifest,
      config: { mediaType: types[kind].config, size: Buffer.byteLength(config), digest },
      layers: await Promise.all(
        packed.map(async (layer) => ({
          mediaType: types[kind].layer,
          size: layer.length,
          digest: await this.blob(repository, layer),
        })),
      ),
    };
    return { manifest, digest };
  }

  async #send(method: string, url: string, body: Buffer, type: string, expected: number): Promise<Response> {
    const { credentials } = this.#access;
    const basic = credentials && Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64');
    const response = await fetch(url, {
      method,
      body: new Uint8Array(body),
      headers: { ...(type ? { 'content-type': type } : {}), ...(basic ? { authorization: `Basic ${basic}` } : {}) },
    });
    if (response.status === expected) return response;
    throw new Error(`${method} ${url}: the registry answers ${response.status}: ${await response.text()}`);
  }
}

function digestOf(content: Buffer | string): string {
  return `sha256:${createHash('sha256').update(content).digest('hex')}`;
}
