import { AppError } from '@backend.ai/core';
import type { SecretKind, StoredSecret, StoredSecretRepository } from '../../repositories/stored-secrets.ts';
import type { SecretBox } from './secret-box.ts';

/** What the secret of each kind is bound to: a ciphertext of another row does not decrypt. */
export const secretContexts: Readonly<Record<SecretKind, (id: string) => string>> = {
  keypair: (accessKey) => accessKey,
  cluster: (sessionId) => `session key pair ${sessionId}`,
  registry: (id) => `registry ${id}`,
};

const owners: Readonly<Record<SecretKind, string>> = {
  keypair: 'the key pair',
  cluster: 'the kernels of the session',
  registry: 'the registry',
};

/** That many are read and written at once. */
const portion = 500;

/**
 * Moves all secrets to the current key of the box, those of somebody who writes meanwhile too; answers how many moved.
 * @throws AppError `config-invalid` when the key of one is not there, `internal` when one was changed
 */
export async function reencrypt(secrets: StoredSecretRepository, box: SecretBox): Promise<number> {
  let moved = 0;
  for (;;) {
    const left = await secrets.listUnderOthers(box.currentKeyId, portion);
    if (left.length === 0) return moved;
    moved += await secrets.replace(left.map((secret) => ({ ...secret, by: again(secret, box) })));
  }
}

function again({ kind, id, encrypted }: StoredSecret, box: SecretBox): string {
  const context = secretContexts[kind](id);
  try {
    return box.encrypt(box.decrypt(encrypted, context), context);
  } catch (cause) {
    const { code, message, hint } = AppError.from(cause);
    throw new AppError(code, `The secret of ${owners[kind]} ${id} cannot be moved: ${message}`, {
      hint: code === 'internal' ? 'Give it another secret, or remove it; then run this again.' : hint,
      cause,
    });
  }
}
