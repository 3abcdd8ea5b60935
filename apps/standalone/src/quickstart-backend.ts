import { spawn } from 'node:child_process';
import { type EngineReport, isSupported } from '@backend.ai/agent';
import { AppError } from '@backend.ai/core';
import type { ClusterConfig } from './config.ts';
import { engineFindings } from './doctor-engine.ts';
import { findInRepository } from './repository.ts';

export interface BackendChoice {
  /** What the kernels will be, and why, in one line. */
  readonly line: string;
  /** Containers are wanted, and nothing is there to make them of. */
  readonly needsImage: boolean;
}

/**
 * What quickstart tells of the backend it was asked for. Nothing that takes minutes happens unasked: where images are
 * missing, `auto` takes processes and names the command that builds one.
 *
 * @throws AppError `isolation-unavailable` when containers are demanded and there is no engine for them
 */
export function quickstartBackend(asked: ClusterConfig['backend'], engine: EngineReport): BackendChoice {
  if (asked === 'process' || asked === 'fake') {
    return { line: asked === 'fake' ? 'Kernels are simulated' : 'Kernels are sandboxed processes', needsImage: false };
  }
  const usable = engine.state === 'ready' && isSupported(engine);
  if (!usable) {
    const { detail, hint } = engineFindings(engine)[0]!;
    const problem = detail.split(';')[0]!;
    if (asked === 'auto') return { line: `Kernels are sandboxed processes: ${problem}`, needsImage: false };
    throw new AppError('isolation-unavailable', `Kernels cannot be containers here: ${problem}.`, { hint });
  }
  const containers = `Kernels are containers of ${engine.product} ${engine.version}`;
  if (engine.images.length > 0 || asked === 'docker')
    return { line: containers, needsImage: engine.images.length === 0 };
  return {
    line:
      `Kernels are sandboxed processes: ${engine.product} has no image for them. ` +
      'For containers: ./backend.ai quickstart --backend docker',
    needsImage: false,
  };
}

/**
 * Builds the image of the example with scripts/build-images.sh, whose progress goes to stderr.
 *
 * @throws AppError `isolation-unavailable`; why, the script has said
 */
export async function buildPythonImage(environment: NodeJS.ProcessEnv): Promise<void> {
  const script = findInRepository('scripts/build-images.sh');
  const code = script && (await exitCode(script, ['python'], environment));
  if (code === 0) return;
  throw new AppError('isolation-unavailable', 'There is no image to make containers of, and it could not be built.', {
    hint: 'Build one with ./scripts/build-images.sh, or use processes: ./backend.ai quickstart --backend process',
  });
}

async function exitCode(program: string, args: string[], env: NodeJS.ProcessEnv): Promise<number | null> {
  const child = spawn(program, args, { env, stdio: ['ignore', 2, 2] });
  return await new Promise((resolve, reject) => child.once('close', resolve).once('error', reject));
}
