import { AppError } from './errors.ts';

/** A name of an image, taken apart: `registry.example:5000/team/python:3.11`. */
export interface ImageReference {
  /** Host, with its port if it has one; undefined in a short name. */
  readonly registry: string | undefined;
  /** Path within the registry: `team/python`. */
  readonly repository: string;
  /** `latest` unless given. */
  readonly tag: string;
}

const component = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
const repositoryForm = new RegExp(`^${component}(?:/${component})*$`);
const tagForm = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const registryForm = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?$/;
export const digestForm: RegExp = /^sha256:[0-9a-f]{64}$/;
const maxLength = 255;

export function isRepositoryName(text: string): boolean {
  return text.length <= maxLength && repositoryForm.test(text);
}

export function isTagName(text: string): boolean {
  return tagForm.test(text);
}

/** Undefined: it is none. The first part is a registry when it has a dot or a port, or is `localhost`, as in Docker. */
export function findImageReference(text: string): ImageReference | undefined {
  const slash = text.indexOf('/');
  const first = slash < 0 ? '' : text.slice(0, slash);
  const hasRegistry = /[.:]/.test(first) || first === 'localhost';
  const rest = hasRegistry ? text.slice(slash + 1) : text;
  const colon = rest.lastIndexOf(':');
  const repository = colon < 0 ? rest : rest.slice(0, colon);
  const tag = colon < 0 ? 'latest' : rest.slice(colon + 1);
  if (hasRegistry && !registryForm.test(first)) return undefined;
  if (!isRepositoryName(repository) || !isTagName(tag)) return undefined;
  return { registry: hasRegistry ? first : undefined, repository, tag };
}

/** @throws AppError `invalid-input` */
export function parseImageReference(text: string): ImageReference {
  const reference = findImageReference(text);
  if (reference) return reference;
  throw new AppError('invalid-input', `"${text}" is not the name of an image.`, {
    hint: 'Names are such as python:3.11 or registry.example:5000/team/python:3.11',
    data: { fields: { image: 'is not the name of an image' } },
  });
}

export function canonicalImageName(registry: string, repository: string, tag: string): string {
  return `${registry}/${repository}:${tag}`;
}

/** Numbers within names count as numbers: 3.9 before 3.11. */
export const compareNames: (a: string, b: string) => number = new Intl.Collator('en', { numeric: true }).compare;
