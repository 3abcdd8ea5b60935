/** How much of a host's name is taken. Changed, components that have been named already would be others. */
const longest = { agent: 48, manager: 120 } as const;
const prefixes = { agent: 'i', manager: 'm' } as const;

/** What a component is called that is not told its name: after its machine, in letters that every name may have. */
export function idOfHost(component: keyof typeof prefixes, hostname: string): string {
  return `${prefixes[component]}-${hostname.replace(/[^A-Za-z0-9._-]/g, '-').slice(0, longest[component])}`;
}
