import type { KernelTarget } from '../../accelerators/accelerator-plugin.ts';
import type { Accelerators } from '../../accelerators/accelerators.ts';
import type { CreateStep } from '../../backends/backend.ts';
import type { KernelResources } from '../../resources/kernel-resources.ts';

/** Asks the plugins what the kernel needs for its accelerators. */
export function attachDevicesStep(
  resources: KernelResources,
  target: KernelTarget,
  accelerators: Accelerators,
): CreateStep {
  return {
    name: 'attach-devices',
    async run() {
      resources.devices = await accelerators.contribute(resources.allocation, target);
    },
    // Nothing was made: the devices are free with the resources.
    undo() {},
  };
}
