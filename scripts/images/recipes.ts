/** What the project's own images are made of and what their labels say: values only. */
import { createHash } from 'node:crypto';

export const imageNames = ['python', 'jupyter', 'node', 'debian', 'shell'] as const;
export type ImageName = (typeof imageNames)[number];

/** What a build takes from the machine. */
export interface MachineFacts {
  /** Of the Python that Debian's sources offer, such as `3.11.2`. */
  readonly pythonVersion: string;
  /** Of the Node.js that is put into an image, such as `20.20.2`. */
  readonly nodeVersion: string;
  /** `debian12`; what the packages are from. */
  readonly baseDistro: string;
}

export interface ImageRecipe {
  readonly name: ImageName;
  /** Repository and tag. */
  readonly reference: string;
  /** Debian packages beside the essential ones; none: the image is BusyBox and nothing else. */
  readonly packages: readonly string[];
  /** Puts the Node.js that runs this into the image. */
  readonly withNode: boolean;
  /** How its services are started, by their names: what lies in `/etc/backend.ai/service-defs`. */
  readonly services?: Readonly<Record<string, object>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly environment: Readonly<Record<string, string>>;
  readonly command: readonly string[];
}

/** On an image: the fingerprint of what it was made of. */
export const recipeLabel = 'ai.backend.build.recipe';

/** Increases when the same recipe makes another image. */
const format = 1;

// fonttools takes either SciPy, which brings a compiler of 800 MB, or munkres. The same interfaces as OpenBLAS, 90 MB less.
const numericPackages = ['python3-numpy', 'python3-matplotlib', 'python3-munkres', 'libblas3', 'liblapack3'];
const pythonPackages = ['python3', 'python3-ipykernel', ...numericPackages];

// Who may use the session is known before a connection gets here, and the network is the session's own: no second password.
const jupyterNotebook = {
  command: [
    ...['/usr/bin/jupyter-notebook', '--no-browser', '--ip=0.0.0.0', '--port={ports[0]}', '--port-retries=0'],
    ...['--notebook-dir=/home/work', '--NotebookApp.token=', '--NotebookApp.allow_remote_access=True'],
  ],
  url_template: '{protocol}://{host}:{port}/tree',
};

const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export function imageRecipe(name: ImageName, facts: MachineFacts): ImageRecipe {
  const labels = (runtimeType: string, runtimePath: string, memory: string, more: Record<string, string> = {}) => ({
    'ai.backend.kernelspec': '1',
    'ai.backend.role': 'COMPUTE',
    'ai.backend.features': 'uid-match user-input batch query tty',
    'ai.backend.base-distro': facts.baseDistro,
    'ai.backend.runtime-type': runtimeType,
    'ai.backend.runtime-path': runtimePath,
    'ai.backend.envs.corecount': 'OMP_NUM_THREADS,NPROC',
    'ai.backend.resource.min.cpu': '1',
    'ai.backend.resource.min.mem': memory,
    ...more,
  });
  const shared = { name, withNode: false, environment: { PATH: path, LANG: 'C.UTF-8' } };
  switch (name) {
    case 'python':
      return {
        ...shared,
        reference: `backend.ai/python:${facts.pythonVersion.split('.').slice(0, 2).join('.')}`,
        packages: [...pythonPackages, 'ca-certificates'],
        labels: labels('python', '/usr/bin/python3', '128m'),
        command: ['python3'],
      };
    case 'jupyter':
      return {
        ...shared,
        reference: 'backend.ai/jupyter:latest',
        packages: [...pythonPackages, 'jupyter-notebook', 'ca-certificates'],
        services: { jupyter: jupyterNotebook },
        labels: labels('python', '/usr/bin/python3', '256m', { 'ai.backend.service-ports': 'jupyter:http:8080' }),
        command: ['python3'],
      };
    case 'node':
      return {
        ...shared,
        reference: `backend.ai/node:${facts.nodeVersion.split('.')[0]}`,
        packages: ['libstdc++6', 'ca-certificates'],
        withNode: true,
        labels: labels('nodejs', '/usr/local/bin/node', '128m'),
        command: ['node'],
      };
    case 'debian':
      return {
        ...shared,
        reference: `backend.ai/debian:${/\d+$/.exec(facts.baseDistro)?.[0] ?? 'latest'}`,
        packages: ['openssh-server', 'ca-certificates'],
        labels: labels('app', '/bin/bash', '64m'),
        command: ['/bin/bash'],
      };
    case 'shell':
      return {
        ...shared,
        reference: 'backend.ai/shell:latest',
        packages: [],
        labels: { ...labels('app', '/bin/sh', '64m'), 'ai.backend.base-distro': 'static' },
        command: ['/bin/sh'],
      };
  }
}

/** Of the files in the image: the same contents need no second build. */
export function contentsFingerprint(recipe: ImageRecipe, facts: MachineFacts): string {
  const { packages, withNode, services } = recipe;
  return fingerprint({ format, packages, services, node: withNode && facts.nodeVersion, distro: facts.baseDistro });
}

/** Of the image; `source` tells Debian packages from Dockerfiles. */
export function recipeFingerprint(recipe: ImageRecipe, source: string): string {
  const { reference, labels, environment, command, services } = recipe;
  return fingerprint({ source, reference, services, labels, environment, command });
}

export function fingerprint(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 20);
}

/** As instructions of a Dockerfile, which `POST /images/create` applies to what it takes in. */
export function imageChanges(recipe: ImageRecipe, fingerprintOfAll: string): string[] {
  const { environment, command } = recipe;
  const labels = { ...recipe.labels, [recipeLabel]: fingerprintOfAll };
  return [
    ...Object.entries(labels).map(([name, value]) => `LABEL ${name}=${JSON.stringify(value)}`),
    ...Object.entries(environment).map(([name, value]) => `ENV ${name}=${JSON.stringify(value)}`),
    'WORKDIR /home/work',
    `CMD ${JSON.stringify(command)}`,
  ];
}

/** `backend.ai/python:3.11` for `host:5000` is `host:5000/backend.ai/python:3.11`; a project given replaces ours. */
export function pushReference(reference: string, target: string): string {
  const prefix = target.replace(/\/+$/, '');
  return prefix.includes('/') ? `${prefix}/${reference.replace(/^[^/]+\//, '')}` : `${prefix}/${reference}`;
}
