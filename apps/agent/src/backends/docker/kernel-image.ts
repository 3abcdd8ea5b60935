import type { ServicePort } from '@backend.ai/contract';
import { readImageLabels } from '@backend.ai/core';
import type { RunnerLanguage } from '../../runner/index.ts';
import type { EngineImage } from './images/image-engine.ts';

/** What is to be known of an image to start a kernel of it. */
export interface KernelImage {
  /** As it was asked for. */
  readonly name: string;
  /** Of its contents: the name may mean something else by now. */
  readonly id: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Its programs find the number of their processors under these names. */
  readonly coreCountVariables: readonly string[];
  /** What its runner speaks. */
  readonly language: RunnerLanguage;
  /** What it is about: a path inside, or a name to be found in its `PATH`. */
  readonly interpreter: string;
  /** What it offers besides. */
  readonly services: readonly ServicePort[];
  /** Bytes of shared memory, unless asked for otherwise. */
  readonly shmemBytes: number;
}

export function kernelImage(name: string, { id, labels, environ }: EngineImage): KernelImage {
  const { language, runtimePath, servicePorts, coreCountVariables, shmem } = readImageLabels(labels);
  const { 'ai.backend.service-ports': offered } = labels;
  return {
    ...{ name, id, language, coreCountVariables },
    environment: { ...environmentOf(environ), ...(offered ? { BACKENDAI_SERVICE_PORTS: offered } : {}) },
    interpreter: interpreterOf(language, runtimePath),
    services: servicePorts.map(({ ports, ...service }) => ({ ...service, ports: [...ports] })),
    shmemBytes: Number(shmem),
  };
}

/** What it says of the environment of a kernel with such amounts; part of a processor counts as one. */
export function environmentFor(
  { environment, coreCountVariables }: Pick<KernelImage, 'environment' | 'coreCountVariables'>,
  slots: Readonly<Record<string, string>>,
): Record<string, string> {
  const cores = String(Math.max(1, Math.ceil(Number(slots.cpu ?? 1))));
  return { ...environment, ...Object.fromEntries(coreCountVariables.map((name) => [name, cores])) };
}

/** Where its interpreter may be. */
export function interpreterPaths({ interpreter, environment }: KernelImage): string[] {
  if (interpreter.startsWith('/')) return [interpreter];
  const folders = (environment.PATH ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin').split(':');
  return folders.filter((folder) => folder.startsWith('/')).map((folder) => `${folder}/${interpreter}`);
}

/** Images that are for shells often name another program, or none that would be one. */
function interpreterOf(language: RunnerLanguage, runtimePath: string | null): string {
  if (language === 'node') return runtimePath ?? 'node';
  if (language === 'shell') return runtimePath !== null && /\/(ba|da|a)?sh$/.test(runtimePath) ? runtimePath : 'sh';
  return runtimePath !== null && /\/python[\d.]*$/.test(runtimePath) ? runtimePath : 'python3';
}

function environmentOf(entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    entries.map((entry) => {
      const at = entry.indexOf('=');
      return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}
