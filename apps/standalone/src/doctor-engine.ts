import { type EngineReport, isSupported } from '@backend.ai/agent';
import { type Finding, finding } from './finding.ts';

const obstacles: Record<Exclude<EngineReport['state'], 'ready'>, (socket: string) => Finding> = {
  absent: (socket) =>
    finding(
      'Docker',
      'optional',
      `no engine at ${socket}; kernels run as sandboxed processes`,
      'For containers, as root: ./scripts/install-packages.sh docker.io; systemctl start docker',
    ),
  closed: (socket) =>
    finding(
      'Docker',
      'optional',
      `this user may not use the engine at ${socket}`,
      'Join its group (as good as being root) and log in again: sudo usermod -aG docker "$USER"',
    ),
  silent: (socket) => finding('Docker', 'optional', `nobody answers at ${socket}`, 'As root: systemctl start docker'),
};

/** What a container engine is good for here, and the next step where something lacks. Nothing needs one. */
export function engineFindings(engine: EngineReport): Finding[] {
  if (engine.state !== 'ready') return [obstacles[engine.state](engine.socket)];
  const { socket } = engine;
  const { product, version, cgroupVersion, storageDriver, swarm, rootless, images } = engine;
  const facts = [
    `${product} ${version} at ${socket}${rootless ? ', without root' : ''}`,
    `control groups of version ${cgroupVersion}`,
    `storage ${storageDriver}`,
    swarm ? 'node of a swarm' : 'no swarm',
  ];
  return [
    isSupported(engine)
      ? finding(
          'Docker',
          'ok',
          facts.join(', '),
          storageDriver === 'vfs' ? 'vfs copies an image for each kernel; keep its data on ext4 or xfs.' : '',
        )
      : finding('Docker', 'optional', `${facts[0]} is too old`, 'Install Docker 20.10 or newer.'),
    images.length > 0
      ? finding('Docker images', 'ok', images.join(', '))
      : finding('Docker images', 'optional', 'none for sessions', 'Make some: ./scripts/build-images.sh python shell'),
  ];
}

/** GPUs by the names of their devices, and whether containers could have them. */
export function gpuFinding(devices: readonly string[], engine: EngineReport): Finding {
  if (devices.length === 0) return finding('GPU', 'optional', 'none found');
  const found = `found ${devices.join(', ')}`;
  const ofNvidia = devices.some((name) => name.startsWith('nvidia'));
  if (engine.state !== 'ready')
    return finding('GPU', 'optional', `${found}; without an engine for sandboxed processes only`);
  if (!ofNvidia || engine.nvidia) return finding('GPU', 'ok', found);
  if (engine.product === 'Podman') {
    const hint = 'For GPUs of NVIDIA: Docker, or ./backend.ai up --backend process';
    return finding('GPU', 'optional', `${found}; Podman hands none of NVIDIA to containers of sessions`, hint);
  }
  return finding(
    'GPU',
    'optional',
    `${found}; the engine cannot hand them out`,
    'Install nvidia-container-toolkit, then: nvidia-ctk runtime configure --runtime=docker',
  );
}
