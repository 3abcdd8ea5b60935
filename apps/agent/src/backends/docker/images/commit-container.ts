import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { AppError, hasCode } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { pack } from 'tar-stream';
import type { ContainerInfo, Engine } from '../engine.ts';
import { labels as ownLabels } from '../labels.ts';

export interface CommitRequest {
  readonly containerId: string;
  /** Canonical name of the image to be. */
  readonly image: string;
  /** Besides those of the image that the container was made of. */
  readonly labels: Readonly<Record<string, string>>;
}

export interface CommitContext {
  /** Nobody wants the image any more. What the engine has begun is waited for and removed. */
  readonly ended: AbortSignal;
  /** Nothing is waited for any more. */
  readonly letGo: AbortSignal;
  readonly logger: Logger;
}

/** Files of any size are written while the container stands still. */
const commitTimeoutMs = 600_000;

/**
 * Makes an image of a container's files. The engine's own commit keeps the container's configuration in the image, with the
 * environment of its session; so that one is made without a name, and only its layers are kept: the configuration is that of
 * the image below. The second image has the layers in common with the first, so nothing is copied.
 * @throws AppError `object-exists` when the name is taken, `image-commit-failed`, `engine-unavailable`, `cancelled`
 */
export async function commitContainer(
  engine: Engine,
  { containerId, image, labels }: CommitRequest,
  { ended, letGo, logger }: CommitContext,
): Promise<void> {
  try {
    if (await engine.inspectImage(image)) throw new AppError('object-exists', `There is an image ${image} already.`);
    const container = await engine.inspectContainer(containerId);
    if (!container) throw new AppError('kernel-not-found', 'The container of the kernel is not there any more.');
    if (container.HostConfig.ReadonlyRootfs) {
      throw new AppError('unsupported-feature', 'Kernels of this agent cannot change the files of their image.', {
        hint: 'Operators decide that: docker.read-only-root of the agent.',
      });
    }
    const base = await engine.inspectImage(container.Image);
    if (!base) throw new AppError('image-commit-failed', 'The image below is not there any more.');
    const draftId = await engine.commitContainer(containerId, draftConfig(container), letGo, commitTimeoutMs);
    try {
      if (ended.aborted) throw new AppError('cancelled', 'The kernel ended while an image was made of it.');
      const draft = await engine.inspectImage(draftId);
      if (!draft) throw new AppError('image-commit-failed', 'The image vanished while it was made.');
      const config = { ...base.Config, Labels: { ...base.Config.Labels, ...labels } };
      const { Architecture: architecture, Os: os, Created: created, RootFS } = draft;
      const rootfs = { type: 'layers', diff_ids: RootFS.Layers ?? [] };
      await engine.loadImage(archiveOf(image, { architecture, os, created, config, rootfs, history: [] }), ended);
      if (!(await engine.inspectImage(image))) {
        throw new AppError('image-commit-failed', `The engine made no image of the name ${image}.`);
      }
    } finally {
      // The next start of the agent removes what stays.
      await engine
        .removeImage(draftId)
        .catch((error: unknown) => logger.warn('draft of an image could not be removed', { image_id: draftId, error }));
    }
  } catch (cause) {
    if (!hasCode(cause, 'engine-failed', 'disk-full')) throw cause;
    const isFull = cause.code === 'disk-full';
    throw new AppError(
      'image-commit-failed',
      isFull ? 'The disk of the container engine is full.' : `No image could be made: ${cause.message}`,
      { data: { image, reason: isFull ? 'no-space' : 'engine' }, cause },
    );
  }
}

/**
 * It exists for moments only, but an agent that is killed meanwhile leaves it: it bears our mark and no value of the
 * session.
 */
function draftConfig({ Config }: ContainerInfo): { Env: string[]; Labels: Record<string, string> } {
  const { [ownLabels.installation]: installation = '', [ownLabels.kernel]: kernel = '' } = Config.Labels;
  return {
    Env: Config.Env.map((entry) => `${entry.split('=', 1)[0]}=`),
    Labels: { [ownLabels.installation]: installation, [ownLabels.kernel]: kernel },
  };
}

/** As `docker save` writes it, without layers: the engine has them. */
function archiveOf(name: string, config: object): Readable {
  const document = JSON.stringify(config);
  const file = `${createHash('sha256').update(document).digest('hex')}.json`;
  const { diff_ids: layers } = (config as { rootfs: { diff_ids: readonly string[] } }).rootfs;
  const manifest = [{ Config: file, RepoTags: [name], Layers: layers.map((_, index) => `${index}.tar`) }];
  const archive = pack();
  archive.entry({ name: file }, document);
  archive.entry({ name: 'manifest.json' }, JSON.stringify(manifest));
  archive.finalize();
  return Readable.from(archive);
}
