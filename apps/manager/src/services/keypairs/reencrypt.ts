import type { SecretKind, StoredSecretRepository } from '../../repositories/stored-secrets.ts';
import type { SecretBox } from './secret-box.ts';

/** What the secret of each kind is bound to: a ciphertext of another row does not decrypt. */
export const secretContexts: Readonly<Record<SecretKind, (id: string) => string>> = {
  keypair: (accessKey) => accessKey,
  cluster: (sessionId) => `session key pair ${sessionId}`,
  registry: (id) => `registry ${id}`,
};

/** Moves all secrets to the current installation key; answers how many moved. */
export async function reencrypt(secrets: StoredSecretRepository, box: SecretBox): Promise<number> {
  let moved = 0;
  for (const secret of await secrets.list()) {
    if (box.isCurrent(secret.encrypted)) continue;
    const context = secretContexts[secret.kind](secret.id);
    const again = box.encrypt(box.decrypt(secret.encrypted, context), context);
    if (await secrets.replace(secret, again)) moved += 1;
  }
  return moved;
}
