import type { Accelerators } from '../../accelerators/accelerators.ts';
import type { Backend, CreateStep } from '../../backends/backend.ts';
import type { KernelResources } from '../../resources/kernel-resources.ts';

/** Asks the plugins what the kernel needs for its accelerators. */
export function attachDevicesStep(
  resources: KernelResources,
  kernelId: string,
  { backend, accelerators }: { readonly backend: Backend; readonly accelerators: Accelerators },
): CreateStep {
  return {
    name: 'attach-devices',
    async run() {
      const devices = await accelerators.contribute(resources.allocation, { kernelId, backend: backend.kind });
      backend.checkDevices?.(devices);
      resources.devices = devices;
    },
    // Nothing was made: the devices are free with the resources.
    undo() {},
  };
}
