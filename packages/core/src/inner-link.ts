/**
 * Whether a symbolic link in an archive leads to somewhere in that archive, whatever else the archive holds.
 *
 * `..` may only stand at the start of a target: there it goes up through the folders that hold the link, and those are
 * real. Behind a name it would go up from wherever a link of that name leads. So a link that passes goes down through
 * names, each of them real or a link that passes, and no chain of such links leaves the archive.
 *
 * @param name Of the link, from the root of the archive, without `.` and `..`
 */
export function isInnerLink(name: string, target: string): boolean {
  if (target === '' || target.startsWith('/') || target.includes('\0')) return false;
  let foldersAbove = name.split('/').length - 1;
  let goesDown = false;
  for (const part of target.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') goesDown = true;
    else if (goesDown || foldersAbove-- === 0) return false;
  }
  return true;
}
