import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const conditions = ['@backend.ai/source'];
const shared = { resolve: { conditions }, ssr: { resolve: { conditions } } };

/** clipanion's modules import folders, which Node refuses and Vite resolves. */
const server = { deps: { inline: ['clipanion'] } };

const onServers = ['packages/*/tests/**/*.servers.test.ts', 'apps/*/tests/**/*.servers.test.ts'];
/** Their `testDatabase()` is PGlite in the project `integration` and PostgreSQL in the project `servers`. */
const onBothDatabases = [
  'packages/database/tests/{catalogue,database,fencing,migrations}.test.ts',
  'apps/manager/tests/{arbitrary-input,audit,backup,clusters,crash-points,explain,faults,file-service,fixtures,idle,identity}.test.ts',
  'apps/manager/tests/{installation-keys,interleavings,operator,preemption,reservations,resource-administration,restart,scheduling-*}.test.ts',
  'apps/manager/tests/{session-*,state-*,tenancy,usage,waiting}.test.ts',
];

/** Those of them that the whole run of `scripts/test.sh` has on PostgreSQL alone: there more goes on at once. */
const onServersOnly = [
  'apps/manager/tests/{arbitrary-input,backup,clusters,crash-points,explain,faults,installation-keys,interleavings,session-fields}.test.ts',
  'apps/manager/tests/scheduling-policies.test.ts',
];

/**
 * What takes minutes together: real kernels, which need a Python of the machine, managers that begin anew dozens of times,
 * and those whose loops and deadlines are waited for.
 */
const long = [
  'apps/agent/tests/**',
  'apps/agent/src/runner/{batch-steps,ipython,runner,runner-languages,terminals}.test.ts',
  'apps/agent/src/services/kernel-services.test.ts',
  'apps/agent/src/resources/processes.test.ts',
  'apps/manager/tests/{backup,faults,follow-logs,lost-events,managers,state-changes,two-leaders,waiting,warm-pools}.test.ts',
  'apps/standalone/tests/data-directory.test.ts',
  'packages/database/tests/pglite.test.ts',
  'apps/manager/tests/{crash-points,explain,idle-streams,interleavings,scheduling-policies}.test.ts',
];

/** What `scripts/test.sh` says of its run: `quick`, or `on-servers` where the project `servers` is part of it. */
const leftOutOf: Readonly<Record<string, readonly string[]>> = { quick: long, 'on-servers': onServersOnly };
const leftOut = leftOutOf[process.env.TEST_RUN ?? ''] ?? [];

/** They need a container engine that may be used, with our images in it. */
const onDocker = ['{packages,apps}/*/tests/**/*.docker.test.ts', 'tests/*.docker.test.ts'];

/** They need root and Debian's podman; `scripts/with-engine.sh --podman` starts it for them. */
const onPodman = ['apps/*/tests/*.podman.test.ts'];

/** Half of their time was loading the same modules for each file: they replace no module and keep no state in one. */
const isolate = false;

/** What is installed and published, tried outside of the repository. They need npm's registry and a build. */
const packaging = ['packages/client/tests/packed.test.ts', 'apps/cli/tests/launcher.test.ts'];

/** What takes longest, the longest first: begun last, one of them would run alone at the end. */
const begunFirst = [
  'tests/distributed.test.ts',
  'tests/long-outage.test.ts',
  'tests/run-dev.test.ts',
  'tests/crash.test.ts',
  'tests/rolling-upgrade.test.ts',
  'tests/embedded-operator.test.ts',
  'tests/quickstart.test.ts',
  'apps/agent/tests/docker-sandbox.docker.test.ts',
  'apps/agent/tests/warm-slots.docker.test.ts',
  'apps/agent/tests/swarm.docker.test.ts',
  'apps/agent/tests/egress.docker.test.ts',
  'tests/egress.docker.test.ts',
  'apps/agent/tests/engine-restarts.docker.test.ts',
  'apps/agent/tests/kernels.test.ts',
  'apps/agent/tests/batch.test.ts',
  'apps/agent/tests/sandbox.test.ts',
  'apps/agent/tests/adoption.test.ts',
  'apps/agent/src/runner/runner.test.ts',
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = begunFirst.findIndex((name) => moduleId.endsWith(`/${name}`));
      return at < 0 ? begunFirst.length : at;
    };
    return (await super.sort(files)).sort((one, other) => rank(one) - rank(other));
  }
}

/**
 * Packages resolve to their sources: tests need no build. Projects: what needs nothing, embedded stores and real
 * processes, packages and launcher, the servers that production uses, whole clusters.
 */
export default defineConfig({
  ...shared,
  test: {
    // Vitest leaves one core to itself, and would use one of two: tests often wait for processes.
    maxWorkers: availableParallelism() + 1,
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        ...shared,
        test: {
          server,
          name: 'unit',
          include: ['packages/*/src/**/*.test.ts', 'apps/*/src/**/*.test.ts', 'scripts/**/*.test.ts'],
          exclude: ['**/node_modules/**', ...leftOut],
          isolate,
          testTimeout: 120_000,
        },
      },
      {
        ...shared,
        test: {
          server,
          name: 'integration',
          isolate,
          globalSetup: ['packages/testing/vitest-databases.ts'],
          include: ['packages/*/tests/**/*.test.ts', 'apps/*/tests/**/*.test.ts'],
          exclude: ['**/node_modules/**', ...onServers, ...onDocker, ...onPodman, ...packaging, ...leftOut],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        ...shared,
        test: { server, name: 'packaging', include: packaging, testTimeout: 120_000, hookTimeout: 120_000 },
      },
      {
        ...shared,
        test: {
          server,
          name: 'docker',
          isolate,
          include: onDocker,
          globalSetup: ['scripts/images/vitest-setup.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        ...shared,
        test: {
          server,
          name: 'podman',
          include: onPodman,
          globalSetup: ['scripts/images/vitest-setup-podman.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        ...shared,
        test: {
          server,
          name: 'servers',
          isolate,
          include: [...onServers, ...onBothDatabases],
          globalSetup: ['scripts/dev-servers/vitest-setup.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        ...shared,
        test: {
          server,
          name: 'system',
          isolate,
          include: ['tests/**/*.test.ts'],
          exclude: onDocker,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
