import type { Image } from '@backend.ai/contract';
import { parseResourceSlots, slotsToTexts } from '@backend.ai/core';
import type { RunnerLanguage } from '../../runner/index.ts';

/** What an image says of itself: labels that begin so, see docs/user/images.md. */
const prefix = 'ai.backend.';
/** Only images with this one are offered. */
export const kernelLabel = `${prefix}kernelspec`;

/** As the engine describes it. */
export interface ImageDescription {
  readonly Id: string;
  readonly Architecture: string;
  readonly Config?:
    | { readonly Labels?: Readonly<Record<string, string>> | null; readonly Env?: readonly string[] | null }
    | null
    | undefined;
}

/** What is to be known of an image to start a kernel of it. */
export interface ImageFacts {
  /** As it was asked for. */
  readonly name: string;
  /** Of its contents. */
  readonly id: string;
  readonly architecture: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly environment: Readonly<Record<string, string>>;
  /** What its runner speaks. */
  readonly language: RunnerLanguage;
  /** What starts its runner: a path inside, or a name to be found in its `PATH`. */
  readonly interpreter: string;
}

export function imageFacts(name: string, { Id, Architecture, Config }: ImageDescription): ImageFacts {
  const labels = Config?.Labels ?? {};
  const language = languageOf(labels[`${prefix}runtime-type`]);
  return {
    name,
    id: Id,
    architecture: architectureOf(Architecture),
    labels,
    environment: environmentOf(Config?.Env ?? []),
    language,
    interpreter: interpreterOf(language, labels[`${prefix}runtime-path`]),
  };
}

/** `app` and whatever this version does not know are spoken to in a shell. */
function languageOf(runtimeType: string | undefined): RunnerLanguage {
  if (runtimeType === 'python') return 'python';
  if (runtimeType === 'node' || runtimeType === 'nodejs') return 'node';
  return 'shell';
}

/** The runner of shells is written in Python. */
function interpreterOf(language: RunnerLanguage, runtimePath: string | undefined): string {
  const named = runtimePath?.startsWith('/') ? runtimePath : undefined;
  if (language === 'node') return named ?? 'node';
  return named && /\/python[\d.]*$/.test(named) ? named : 'python3';
}

function environmentOf(entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    entries.map((entry) => {
      const at = entry.indexOf('=');
      return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

/** As it is offered to managers. */
export function offeredImage({ name, architecture, language, labels }: ImageFacts): Image {
  return { name, aliases: aliasesOf(name), architecture, language, minSlots: minSlotsOf(labels) };
}

/** `NAME:latest` is also called `NAME`. */
function aliasesOf(name: string): string[] {
  return name.endsWith(':latest') ? [name.slice(0, -':latest'.length)] : [];
}

/** Amounts that cannot be understood count as absent: an image with a slip in a label can still be used. */
function minSlotsOf(labels: Readonly<Record<string, string>>): Image['minSlots'] {
  const asked = Object.entries(labels).flatMap(([label, amount]) => {
    const [, slot] = /^ai\.backend\.resource\.min\.(.+)$/.exec(label) ?? [];
    if (slot === undefined) return [];
    try {
      return Object.entries(slotsToTexts(parseResourceSlots({ [slot]: amount })));
    } catch {
      return [];
    }
  });
  return { cpu: '1', mem: String(64 * 1024 ** 2), ...Object.fromEntries(asked) };
}

/** Engines speak of `amd64`, everybody else here as `uname -m`. */
export function architectureOf(name: string): string {
  const names: Record<string, string> = { amd64: 'x86_64', arm64: 'aarch64' };
  return names[name] ?? name;
}
