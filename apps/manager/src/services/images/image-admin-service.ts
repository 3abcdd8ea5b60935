import type {
  AliasImageInput,
  CallContext,
  DealiasImageInput,
  ImageAdminApi,
  ImageRef,
  ImageSource,
  PreloadImageInput,
  PullPolicy,
  PullProgress,
  PurgeImageInput,
  PurgeReport,
  RescanInput,
  ScanStarted,
} from '@backend.ai/contract';
import { AppError, type Clock, canonicalArchitecture, delay } from '@backend.ai/core';
import type { AgentClients } from '../../clients/agent-clients.ts';
import type { AgentRecord } from '../../repositories/agents.ts';
import type { ContainerRegistryRepository } from '../../repositories/container-registries.ts';
import type { ImageRecord, ImageRepository } from '../../repositories/images.ts';
import type { AgentDirectory } from '../agents/agent-directory.ts';
import { actorOf } from '../sessions/session-service.ts';
import type { TaskProgress, TaskService } from '../tasks/task-service.ts';
import { type FoundImageRef, offersImage } from './find-image.ts';
import type { ImageCatalog } from './image-catalog.ts';
import { everything, type ImageService } from './image-service.ts';
import type { RegistryService } from './registry-service.ts';

export interface ImageAdminOptions {
  readonly images: ImageService;
  readonly rows: ImageRepository;
  readonly registryRows: ContainerRegistryRepository;
  readonly catalog: ImageCatalog;
  readonly registries: RegistryService;
  readonly agents: AgentDirectory;
  readonly clients: AgentClients;
  readonly tasks: TaskService;
  readonly clock: Clock;
  readonly pullPolicy: PullPolicy;
}

/** How often agents are asked how far they are. */
const askMs = 500;

/** What administrators do with images. */
export class ImageAdminService implements ImageAdminApi {
  readonly #options: ImageAdminOptions;

  constructor(options: ImageAdminOptions) {
    this.#options = options;
  }

  rescan({ registry }: RescanInput, ctx: CallContext): Promise<ScanStarted[]> {
    return this.#options.registries.rescan(registry, ctx);
  }

  async alias({ alias, ...ref }: AliasImageInput): Promise<{ alias: string; image: string; architecture: string }> {
    const { images, rows, catalog } = this.#options;
    const { image } = await images.find(ref.image, ref.architecture, everything);
    const { name, architecture } = image;
    const now = await rows.alias({ alias, architecture, image: name });
    if (now !== name) {
      throw new AppError('object-exists', `The alias "${alias}" means ${now} on ${architecture} already.`, {
        hint: `Remove it first: ./backend.ai image dealias ${alias}`,
      });
    }
    catalog.announce();
    return { alias, image: name, architecture };
  }

  async dealias({ alias, architecture }: DealiasImageInput): Promise<void> {
    const wanted = architecture === undefined ? undefined : canonicalArchitecture(architecture);
    if (!(await this.#options.rows.dealias(alias, wanted))) {
      throw new AppError('object-not-found', `There is no alias "${alias}".`);
    }
    this.#options.catalog.announce();
  }

  async forget({ image, architecture }: ImageRef): Promise<{ image: string; architecture: string }> {
    const { name, architecture: of } = this.#recordOf(await this.#options.images.find(image, architecture, everything));
    await this.#options.rows.forget(name, of);
    this.#options.catalog.announce();
    return { image: name, architecture: of };
  }

  async purge({
    image,
    architecture,
    agents: named,
    forced,
    removeFromRegistry,
  }: PurgeImageInput): Promise<PurgeReport> {
    const { images, rows, catalog, registries } = this.#options;
    const found = await images.find(image, architecture, everything);
    const { name, architecture: of } = found.image;
    let removedFromRegistry = false;
    if (removeFromRegistry) {
      const { registry, repository, manifestDigest } = this.#recordOf(found);
      const client = await registries.clientOf(registry, new AbortController().signal);
      removedFromRegistry = await client.deleteManifest(repository, manifestDigest);
    }
    const targets = this.#chosen(found.agents, named, (agent) => offersImage(agent, found.image));
    const agents = await Promise.all(targets.map((agent) => this.#purgeFrom(agent, name, forced)));
    // Those that failed still have it; a session may be made of it as long as anybody offers it.
    await rows.forget(name, of);
    catalog.announce();
    return { image: name, architecture: of, agents, removedFromRegistry };
  }

  async preload(
    { image, architecture, agents: named }: PreloadImageInput,
    ctx: CallContext,
  ): Promise<{ taskId: string; agents: string[] }> {
    const { images, tasks } = this.#options;
    const found = await images.find(image, architecture, everything);
    const record = this.#recordOf(found);
    const agents = this.#chosen(found.agents, named, ({ status }) => status === 'ALIVE');
    if (agents.length === 0) throw new AppError('no-agent', `No agent that is alive could fetch ${record.name}.`);
    const source = await this.#sourceOf(record);
    const { userId, domain } = actorOf(ctx);
    const taskId = await tasks.start({
      kind: 'preload',
      owner: { userId, domain },
      run: (tell, signal) => this.#preload(record.name, source, agents, tell, signal),
    });
    return { taskId, agents: agents.map(({ id }) => id) };
  }

  async #purgeFrom({ id: agent }: AgentRecord, image: string, forced: boolean): Promise<PurgeReport['agents'][number]> {
    try {
      const { removed } = await this.#options.clients.call(agent, (api) => api.purgeImage.mutate({ image, forced }));
      return { agent, outcome: removed ? 'removed' : 'absent', message: null };
    } catch (thrown) {
      return { agent, outcome: 'failed', message: AppError.from(thrown).message };
    }
  }

  async #preload(
    image: string,
    source: ImageSource,
    agents: readonly AgentRecord[],
    tell: (progress: TaskProgress) => void,
    signal: AbortSignal,
  ): Promise<{ image: string; agents: ReadonlyArray<{ agent: string; error: string | null }> }> {
    const progress = new Map<string, PullProgress>();
    const fetched = agents.map(async ({ id: agent }) => {
      try {
        await this.#preloadAt(agent, image, source, signal, (now) => {
          progress.set(agent, now);
          const all = [...progress.values()];
          const sum = (of: (each: PullProgress) => number): number => all.reduce((total, each) => total + of(each), 0);
          tell({ current: sum((each) => each.currentBytes), total: sum((each) => each.totalBytes), message: image });
        });
        return { agent, error: null };
      } catch (thrown) {
        return { agent, error: AppError.from(thrown).message };
      }
    });
    const outcome = await Promise.all(fetched);
    const failed = outcome.filter(({ error }) => error !== null);
    if (failed.length === outcome.length) {
      throw new AppError('image-pull-failed', `No agent could fetch ${image}: ${failed[0]?.error}`, {
        data: { outcome },
      });
    }
    return { image, agents: outcome };
  }

  async #preloadAt(
    agentId: string,
    image: string,
    source: ImageSource,
    signal: AbortSignal,
    onProgress: (progress: PullProgress) => void,
  ): Promise<void> {
    const { clients, clock } = this.#options;
    await clients.call(agentId, (api) => api.pullImage.mutate({ image, source }));
    while (!signal.aborted) {
      const { state, digest, progress, failure } = await clients.call(agentId, (api) =>
        api.checkImage.query({ image }),
      );
      if (failure) throw new AppError('image-pull-failed', failure.message, { data: { agent: agentId, ...failure } });
      if (progress) onProgress(progress);
      const isThere = source.pullPolicy !== 'digest' || digest === source.digest || digest === source.manifestDigest;
      if (state === 'present' && isThere) return;
      await delay(clock, askMs, signal);
    }
    throw new AppError('shutting-down', 'The manager that waited for it has ended.');
  }

  async #sourceOf({ registry, digest, manifestDigest }: ImageRecord): Promise<ImageSource> {
    const { registryRows, registries, pullPolicy } = this.#options;
    const row = await registryRows.find(registry);
    const credentials = row && registries.credentialsOf(row);
    // Who orders it by name wants it there whatever starts of sessions do.
    const policy = pullPolicy === 'none' ? 'tag' : pullPolicy;
    return { digest, manifestDigest, pullPolicy: policy, ...(credentials ? { credentials } : {}) };
  }

  /** @throws AppError `invalid-input` for an image that only agents have */
  #recordOf({ image, record }: FoundImageRef): ImageRecord {
    if (record) return record;
    throw new AppError('invalid-input', `No registry has ${image.name}: agents offer it as long as they have it.`, {
      hint: `Remove it from them with: ./backend.ai image purge ${image.name}`,
      data: { fields: { image: 'is in no registry' } },
    });
  }

  /** @throws AppError `object-not-found` for a name that is no agent of the image */
  #chosen(
    agents: readonly AgentRecord[],
    named: readonly string[] | undefined,
    otherwise: (agent: AgentRecord) => boolean,
  ): AgentRecord[] {
    if (!named) return agents.filter((agent) => agent.backend === 'docker' && otherwise(agent));
    return named.map((id) => {
      const found = agents.find((agent) => agent.id === id);
      if (!found) throw new AppError('object-not-found', `No agent "${id}" could have this image.`);
      return found;
    });
  }
}
