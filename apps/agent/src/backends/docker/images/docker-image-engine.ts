import { AppError } from '@backend.ai/core';
import type Docker from 'dockerode';
import { LineSplitter } from '../../../runner/line-splitter.ts';
import type { EngineImage, ImageEngine, PullOptions } from './image-engine.ts';
import { pullFailure } from './pull-failure.ts';
import { LayerBytes, type PullMessage } from './pull-progress.ts';

const longestLineBytes = 1024 * 1024;

/** Images of a Docker engine, or of one that speaks like it. */
export class DockerImageEngine implements ImageEngine {
  readonly #docker: Docker;

  constructor(docker: Docker) {
    this.#docker = docker;
  }

  async inspect(reference: string): Promise<EngineImage | null> {
    const found = await orNull(this.#docker.getImage(reference).inspect());
    if (!found) return null;
    return {
      id: found.Id,
      names: found.RepoTags ?? [],
      architecture: found.Architecture,
      labels: found.Config?.Labels ?? {},
      environ: found.Config?.Env ?? [],
      sizeBytes: found.Size,
    };
  }

  async list(): Promise<Array<{ id: string; names: readonly string[] }>> {
    const images = await this.#docker.listImages();
    return images.map(({ Id: id, RepoTags }) => ({
      id,
      names: (RepoTags ?? []).filter((name) => !name.includes('<none>')),
    }));
  }

  async pull(reference: string, { credentials, signal, onProgress }: PullOptions): Promise<void> {
    const authconfig = credentials && { ...credentials, serveraddress: reference.slice(0, reference.indexOf('/')) };
    const bytes = new LayerBytes();
    let failure: string | undefined;
    try {
      const stream = await this.#docker.pull(reference, { ...(authconfig ? { authconfig } : {}), abortSignal: signal });
      const lines = new LineSplitter(longestLineBytes);
      const hear = (line: string): void => {
        const message = JSON.parse(line) as PullMessage;
        failure ??= message.error;
        bytes.add(message);
        onProgress(bytes.total);
      };
      for await (const chunk of stream) {
        const read = lines.push(chunk as Buffer);
        if (!read) throw new Error('the engine sends a line without end');
        for (const line of read) hear(line);
      }
    } catch (cause) {
      if (signal.aborted) throw new AppError('cancelled', `${reference} is not wanted any more.`, { cause });
      throw pullFailure(reference, messageOf(cause), cause);
    }
    if (failure !== undefined) throw pullFailure(reference, failure);
  }

  async tag(id: string, name: string): Promise<void> {
    const colon = name.lastIndexOf(':');
    await this.#docker.getImage(id).tag({ repo: name.slice(0, colon), tag: name.slice(colon + 1) });
  }

  async remove(name: string, { forced }: { readonly forced: boolean }): Promise<boolean> {
    try {
      return (await orNull(this.#docker.getImage(name).remove({ force: forced }))) !== null;
    } catch (cause) {
      if (statusOf(cause) !== 409) throw cause;
      throw new AppError('image-in-use', `The image ${name} is in use.`, {
        detail: { message: messageOf(cause) },
        cause,
      });
    }
  }
}

async function orNull<T>(asking: Promise<T>): Promise<T | null> {
  try {
    return await asking;
  } catch (error) {
    if (statusOf(error) === 404) return null;
    throw error;
  }
}

function statusOf(error: unknown): number | undefined {
  return (error as { statusCode?: number }).statusCode;
}

/** The engine's own words, without what the client puts before them. */
function messageOf(error: unknown): string {
  const { json, message } = error as { json?: { message?: string }; message?: string };
  return json?.message ?? message ?? String(error);
}
