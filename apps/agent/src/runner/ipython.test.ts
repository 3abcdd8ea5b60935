import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { brokenModules, ipythonSuite } from './ipython-suite.test.kit.ts';
import { Kernel, python } from './runner.test.kit.ts';

/** A Python of this machine that has ipykernel: the one named here, or the usual one. */
const withIpykernel = [process.env.BACKEND_TEST_IPYKERNEL_PYTHON, python].find((path): path is string => {
  try {
    if (path === undefined) return false;
    execFileSync(path, ['-c', 'import ipykernel, jupyter_client, zmq'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
});

ipythonSuite({
  title: 'Python with ipykernel',
  newKernel: async (modules) => {
    const env = modules === undefined ? {} : { PYTHONPATH: modules };
    return new Kernel('python', undefined, { path: withIpykernel as string, interpreter: 'auto', env });
  },
  isMissing: withIpykernel === undefined,
});

it.skipIf(!python)(
  'the built-in interpreter takes over, with a notice, from an ipykernel that cannot start',
  async () => {
    const broken = 'raise ImportError("broken on purpose")\n';
    const modules = brokenModules({ ipykernel: broken, zmq: broken, jupyter_client: broken });
    const kernel = new Kernel('python', undefined, { interpreter: 'auto', env: { PYTHONPATH: modules } });
    onTestFinished(() => kernel.stop());
    const client = await kernel.connect();
    const outcome = await kernel.finish(client, 'x = 6 * 7\nx');
    expect(outcome).toMatchObject({ exitCode: 0, stdout: '42\n' });
    expect(await kernel.finish(client, 'x + 1')).toMatchObject({ stdout: '43\n' });
    expect(readFileSync(join(kernel.run, 'console.log'), 'utf8')).toContain('broken on purpose');
  },
);
