import type { ImageSource, PullPolicy } from '@backend.ai/contract';
import type { StartableKernel } from '../../repositories/session-transitions.ts';
import { secretContexts } from '../installation-keys/reencrypt.ts';
import type { SecretBox } from '../installation-keys/secret-box.ts';

/** What agents are told of images that registries have. Credentials are those of the moment in which a kernel starts. */
export class ImageSources {
  readonly #box: Pick<SecretBox, 'decrypt'>;
  readonly #pullPolicy: PullPolicy;

  constructor(box: Pick<SecretBox, 'decrypt'>, pullPolicy: PullPolicy) {
    this.#box = box;
    this.#pullPolicy = pullPolicy;
  }

  /**
   * Undefined: no registry has it, or none any more.
   * @throws AppError `config-invalid` when the installation key is not that of the database
   */
  of({
    imageRegistry: registry,
    imageDigest: digest,
    imageManifestDigest: manifestDigest,
  }: Pick<StartableKernel, 'imageRegistry' | 'imageDigest' | 'imageManifestDigest'>): ImageSource | undefined {
    if (!registry || digest === null || manifestDigest === null) return undefined;
    const source = { digest, manifestDigest, pullPolicy: this.#pullPolicy };
    const { id, username, passwordEncrypted } = registry;
    // An agent that is not to fetch needs no password.
    if (this.#pullPolicy === 'none' || username === null || passwordEncrypted === null) return source;
    const password = this.#box.decrypt(passwordEncrypted, secretContexts.registry(id));
    return { ...source, credentials: { username, password } };
  }
}
