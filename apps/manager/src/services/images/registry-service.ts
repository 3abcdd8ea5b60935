import type {
  CallContext,
  CreateRegistryInput,
  ModifyRegistryInput,
  RegistryAdminApi,
  RegistryView,
  ScanReport,
  ScanStarted,
} from '@backend.ai/contract';
import { AppError, canonicalImageName, newId, readImageLabels } from '@backend.ai/core';
import { sqlStateOf, sqlStates } from '@backend.ai/database';
import { RegistryClient } from '../../clients/registry/registry-client.ts';
import type { RegistryHttp } from '../../clients/registry/registry-http.ts';
import type {
  ContainerRegistryRepository,
  RegistryRecord,
  RegistryValues,
} from '../../repositories/container-registries.ts';
import type { ImageRepository } from '../../repositories/images.ts';
import { secretContexts } from '../installation-keys/reencrypt.ts';
import type { SecretBox } from '../installation-keys/secret-box.ts';
import { actorOf } from '../sessions/session-service.ts';
import { toIso } from '../sessions/session-view.ts';
import type { TaskProgress, TaskService } from '../tasks/task-service.ts';
import type { ImageCatalog } from './image-catalog.ts';
import type { FoundImage } from './scan-image.ts';
import { scanRegistry } from './scan-registry.ts';

export interface RegistryServiceOptions {
  readonly registries: ContainerRegistryRepository;
  readonly images: ImageRepository;
  readonly catalog: ImageCatalog;
  readonly tasks: TaskService;
  readonly http: RegistryHttp;
  readonly box: SecretBox;
}

/** How many failures of one rescan are kept word by word. */
const maxFailures = 100;

/** Registries, and what a look into them finds. */
export class RegistryService implements RegistryAdminApi {
  readonly #options: RegistryServiceOptions;

  constructor(options: RegistryServiceOptions) {
    this.#options = options;
  }

  async list(): Promise<RegistryView[]> {
    return (await this.#options.registries.list()).map(toView);
  }

  async get({ name }: { name: string }): Promise<RegistryView> {
    return toView(await this.#find(name));
  }

  async create({ name, password, ...input }: CreateRegistryInput): Promise<RegistryView> {
    const id = newId();
    await this.#write(name, () => {
      const values = { ...input, url: new URL(input.url).origin, passwordEncrypted: this.#encrypt(id, password) };
      return this.#options.registries.create(id, name, checked(values));
    });
    return await this.get({ name });
  }

  async modify({ name, password, ...changes }: ModifyRegistryInput): Promise<RegistryView> {
    const { id, url, username, passwordEncrypted, repositories, isActive } = await this.#find(name);
    const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
    const values = {
      ...{ url, username, repositories, isActive },
      ...given,
      ...(changes.url === undefined ? {} : { url: new URL(changes.url).origin }),
      passwordEncrypted: password === undefined ? passwordEncrypted : this.#encrypt(id, password),
    };
    if (values.url !== url && password === undefined && passwordEncrypted !== null) {
      // It is kept for one host. Who changes the address must not make it known to another one.
      throw new AppError('invalid-input', 'The password of a registry goes with its address: give it again.', {
        data: { fields: { password: 'is needed for the new address' } },
      });
    }
    await this.#write(name, () => this.#options.registries.modify(id, checked(values)));
    // What it had under its former address is there no more.
    if (values.url !== url) await this.#options.images.removeOthers(id, []);
    this.#options.catalog.announce();
    return await this.get({ name });
  }

  async delete({ name }: { name: string }): Promise<void> {
    if (!(await this.#options.registries.delete(name))) throw absent(name);
    this.#options.catalog.announce();
  }

  /** Begins to look into one registry, or into all that are active; into each at most once at a time. */
  async rescan(name: string | undefined, ctx: CallContext): Promise<ScanStarted[]> {
    const { registries, tasks } = this.#options;
    const chosen =
      name === undefined ? (await registries.list()).filter((each) => each.isActive) : [await this.#find(name)];
    const { userId, domain } = actorOf(ctx);
    return await Promise.all(
      chosen.map(async (registry) => {
        const taskId = await tasks.start({
          kind: 'rescan',
          owner: { userId, domain },
          exclusive: `rescan ${registry.id}`,
          run: (tell, signal) => this.#scan(registry, tell, signal),
        });
        return { registry: registry.name, taskId };
      }),
    );
  }

  /** @throws AppError `object-not-found` */
  async clientOf(name: string, signal: AbortSignal): Promise<RegistryClient> {
    return this.#client(await this.#find(name), signal);
  }

  /** @throws AppError `config-invalid` when the installation key is not that of the database */
  credentialsOf({
    id,
    username,
    passwordEncrypted,
  }: RegistryRecord): { username: string; password: string } | undefined {
    if (username === null || passwordEncrypted === null) return undefined;
    return { username, password: this.#options.box.decrypt(passwordEncrypted, secretContexts.registry(id)) };
  }

  /** @throws AppError `object-not-found` */
  async #find(name: string): Promise<RegistryRecord> {
    const found = await this.#options.registries.find(name);
    if (!found) throw absent(name);
    return found;
  }

  #client(registry: RegistryRecord, signal: AbortSignal): RegistryClient {
    return new RegistryClient({
      url: registry.url,
      credentials: this.credentialsOf(registry),
      http: this.#options.http,
      signal,
    });
  }

  #encrypt(id: string, password: string | null): string | null {
    return password === null ? null : this.#options.box.encrypt(password, secretContexts.registry(id));
  }

  async #write(name: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      if (sqlStateOf(cause) !== sqlStates.uniqueViolation) throw cause;
      throw new AppError('object-exists', `There is a registry "${name}", or one with this URL, already.`, { cause });
    }
  }

  async #scan(
    registry: RegistryRecord,
    tell: (progress: TaskProgress) => void,
    signal: AbortSignal,
  ): Promise<ScanReport> {
    const { images: rows, registries, catalog } = this.#options;
    const known = new Map<string, Map<string, FoundImage>>();
    for (const image of await rows.list(registry.id)) {
      const ofRepository = known.get(image.repository) ?? new Map<string, FoundImage>();
      known.set(image.repository, ofRepository.set(image.manifestDigest, image));
    }
    const { host } = new URL(registry.url);
    let [changed, removed] = [0, 0];
    try {
      const { repositories, failures } = await scanRegistry({
        client: this.#client(registry, signal),
        only: registry.repositories,
        known: (repository) => known.get(repository) ?? new Map(),
        keep: async (repository, found, failedTags) => {
          const images = found.map((image) => ({
            ...image,
            id: newId(),
            name: canonicalImageName(host, repository, image.tag),
          }));
          const counts = await rows.update({ registryId: registry.id, repository, images, failedTags });
          changed += counts.changed;
          removed += counts.removed;
        },
        tell,
      });
      removed += await rows.removeOthers(registry.id, repositories);
      const now = await rows.list(registry.id);
      const report: ScanReport = {
        registry: registry.name,
        images: now.length,
        changed,
        removed,
        warned: now.filter(({ labels }) => readImageLabels(labels).warnings.length > 0).length,
        failures: failures
          .slice(0, maxFailures)
          .map(({ image, error: { code, message } }) => ({ image, code, message })),
        failed: failures.length,
      };
      await registries.scanned(registry.id, report);
      return report;
    } finally {
      catalog.announce();
    }
  }
}

/** @throws AppError `invalid-input` for half of the credentials */
function checked(values: RegistryValues): RegistryValues {
  if ((values.username === null) === (values.passwordEncrypted === null)) return values;
  throw new AppError('invalid-input', 'A registry has both a user name and a password, or none of them.', {
    data: { fields: { username: 'comes with a password', password: 'comes with a user name' } },
  });
}

function toView({ passwordEncrypted, scannedAt, ...registry }: RegistryRecord): RegistryView {
  const { name, url, username, repositories, isActive, lastScan, images } = registry;
  return {
    ...{ name, url, username, repositories, isActive, lastScan, images },
    hasPassword: passwordEncrypted !== null,
    scannedAt: scannedAt === null ? null : toIso(scannedAt),
  };
}

function absent(name: string): AppError {
  return new AppError('object-not-found', `There is no registry "${name}".`, {
    hint: 'They are listed by: ./backend.ai admin registry list',
  });
}
