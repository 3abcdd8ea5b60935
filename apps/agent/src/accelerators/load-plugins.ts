import { basename, extname, isAbsolute } from 'node:path';
import { pathToFileURL } from 'node:url';
import { AppError } from '@backend.ai/core';
import { findProgram, searchFolders } from '../files/programs.ts';
import type { AcceleratorPlugin, CreateAccelerator, PluginContext, PluginSettings } from './accelerator-plugin.ts';
import type { PluginSource } from './accelerators.ts';
import { createCudaPlugin, nvidiaProgram } from './cuda/cuda-plugin.ts';
import { createMockPlugin } from './mock/mock-plugin.ts';
import { createRocmPlugin, rocmProgram } from './rocm/rocm-plugin.ts';

const builtIns: Readonly<Record<string, CreateAccelerator>> = {
  cuda: createCudaPlugin,
  rocm: createRocmPlugin,
  mock: createMockPlugin,
};

/** Programs by which the machine shows that it has such accelerators. */
const detectedBy: Readonly<Record<string, string>> = { cuda: nvidiaProgram, rocm: rocmProgram };

export interface AcceleratorConfig {
  /** `auto`, names of built-in plugins, or absolute paths of modules. */
  readonly plugins: readonly string[];
  /** By plugin and setting, as in `cuda.allocation-mode`; a module has the name of its file. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/**
 * The plugins that are configured, not yet loaded. `auto` stands for those whose tools are on the machine.
 * @throws AppError `config-invalid` for names that mean nothing
 */
export function pluginSources({ plugins, settings }: AcceleratorConfig, context: PluginContext): PluginSource[] {
  const named = plugins.flatMap((name) => (name === 'auto' ? detected(context.path) : [name]));
  const sources = [...new Set(named)].map((name) => {
    const settingsName = isAbsolute(name) ? basename(name, extname(name)) : name;
    if (!isAbsolute(name) && !Object.hasOwn(builtIns, name)) {
      throw new AppError('config-invalid', `There is no accelerator plugin "${name}".`, {
        hint: `Built-in are ${Object.keys(builtIns).join(', ')}; others are named by their absolute path.`,
      });
    }
    return { name, settingsName, create: () => load(name, settingsOf(settings, settingsName), context) };
  });
  const stray = Object.keys(settings).find((key) => !known(sources, key));
  if (stray !== undefined) {
    throw new AppError('config-invalid', `accelerators.settings has ${stray}, but there is no such plugin.`, {
      hint: 'Name it in accelerators.plugins; settings are written PLUGIN.SETTING.',
    });
  }
  return sources;
}

/** Settings of built-in plugins may stand there before their hardware does. */
function known(sources: ReadonlyArray<{ readonly settingsName: string }>, key: string): boolean {
  const [plugin = ''] = key.split('.');
  return key.includes('.') && (Object.hasOwn(builtIns, plugin) || sources.some((each) => each.settingsName === plugin));
}

function detected(path: string): string[] {
  const folders = searchFolders(path);
  return Object.entries(detectedBy).flatMap(([name, program]) => (findProgram(program, folders) ? [name] : []));
}

/** `cuda.allocation-mode` is `allocationMode` to the plugin. */
function settingsOf(settings: Readonly<Record<string, unknown>>, plugin: string): PluginSettings {
  return Object.fromEntries(
    Object.entries(settings)
      .filter(([key]) => key.startsWith(`${plugin}.`))
      .map(([key, value]) => [camelCase(key.slice(plugin.length + 1)), value]),
  );
}

function camelCase(name: string): string {
  return name.replace(/[-_]([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

async function load(name: string, settings: PluginSettings, context: PluginContext): Promise<AcceleratorPlugin> {
  const builtIn = Object.hasOwn(builtIns, name) ? builtIns[name] : undefined;
  if (builtIn) return await builtIn(settings, context);
  const loaded = (await import(pathToFileURL(name).href)) as { createAccelerator?: CreateAccelerator };
  if (typeof loaded.createAccelerator !== 'function') {
    throw new AppError('config-invalid', `${name} has no function createAccelerator.`);
  }
  return await loaded.createAccelerator(settings, context);
}
