import { AppError } from './errors.ts';
import { findImageReference } from './image-reference.ts';

/**
 * Images that users made of their sessions. Whose one is stands in its name, `backend.ai/customized/USER ID/NAME:TAG`, below
 * which nothing else is ever made: so no image can take the place of another user's, or of one for everybody, and whoever
 * knows the name, an agent or a manager, knows the owner.
 */
export interface CustomizedImage {
  readonly ownerId: string;
  /** What its owner calls it: `my-tools:1`. */
  readonly name: string;
}

const customizedRoot = 'customized';
/** Where those are that no registry has: agents fetch nothing from there. */
const localImageHost = 'backend.ai';

const form = new RegExp(`^${customizedRoot}/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/([^/]+)$`);
const maxNameLength = 128;

/** Undefined: it is none. @param canonical As agents call it */
export function findCustomizedImage(canonical: string): CustomizedImage | undefined {
  const reference = findImageReference(canonical);
  // Who may push to a registry must not put anything among the images of another.
  const isLocal = reference?.registry === localImageHost;
  const [, ownerId, name] = form.exec(isLocal ? reference.repository : '') ?? [];
  return ownerId === undefined ? undefined : { ownerId, name: `${name}:${reference?.tag}` };
}

/**
 * @param name What its owner calls it, with or without a tag: one word, no path
 * @throws AppError `invalid-input`
 */
export function customizedImageName(ownerId: string, name: string): string {
  const reference = findImageReference(name);
  if (!reference || reference.registry || reference.repository.includes('/') || name.length > maxNameLength) {
    throw new AppError('invalid-input', `"${name.slice(0, maxNameLength)}" is no name for an image of yours.`, {
      hint: 'Name it in small letters, digits, "-", "_" and ".", with a tag if you like: my-tools:1',
      data: { fields: { image: 'must be NAME or NAME:TAG, without a registry or a path' } },
    });
  }
  return `${localImageHost}/${customizedRoot}/${ownerId}/${reference.repository}:${reference.tag}`;
}

/** What a committed image tells of itself besides, as programs of the original read it; and that it is made for sessions. */
export function customizedImageLabels(
  owner: { readonly userId: string; readonly email: string },
  image: {
    readonly id: string;
    readonly name: string;
  },
): Record<string, string> {
  const prefix = 'ai.backend.customized-image';
  return {
    // The image below may lack it, and agents offer none without.
    'ai.backend.kernelspec': '1',
    [`${prefix}.owner`]: `user:${owner.userId}`,
    [`${prefix}.name`]: image.name,
    [`${prefix}.id`]: image.id,
    [`${prefix}.user.email`]: owner.email,
  };
}
