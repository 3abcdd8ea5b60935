import { homeInKernel } from '../../files/home-path.ts';

/** Where things stand as the kernel sees them. */
export interface KernelView {
  readonly home: string;
  readonly run: string;
  readonly tmp: string;
  readonly config: string;
  readonly runner: string;
}

/** Of every kernel that has a file system of its own. */
export const ownView: KernelView = {
  home: homeInKernel,
  run: '/run/kernel',
  tmp: '/tmp',
  config: '/home/config',
  runner: '/opt/backend.ai/runner',
};
